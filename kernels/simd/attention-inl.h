// Attention, head by head, in the tiles of the matmul: K is packed as a weight would be, V is
// copied into panels, and for a few rows of q at a time the scores stay in the cache between q k^T,
// softmax and the product with V. In an arithmetic that prepares its rows (bf16), q, k, v and the
// exponentials are converted on the way.
#pragma once

#include "kernels/simd/bf16-inl.h"
#include "kernels/simd/rows-inl.h"

namespace splitee::kernels {
namespace {

template <class T>
constexpr bool kConverts = T::kDepth > 1;

// Parts of the scratch and where they begin, in bytes.
template <class T>
struct AttentionScratch {
  std::size_t score_stride;  // floats
  std::size_t values;        // panels of V; the packed keys are at 0
  std::size_t scores;        // (T::kRows, score_stride)
  std::size_t rows;          // converted: the keys, then (T::kRows) rows of q and of scores
  std::size_t weights;
  std::size_t end;

  AttentionScratch(std::size_t kv_rows, std::size_t head_size)
      : score_stride((kv_rows + kColumns<T> - 1) / kColumns<T> * kColumns<T>),
        values(packed_bytes<T>(kv_rows, head_size)),
        scores(values + packed_bytes<T>(head_size, kv_rows)),
        rows(scores + T::kRows * score_stride * sizeof(float)),
        weights(rows),
        end(rows) {
    if constexpr (kConverts<T>) {
      const std::size_t most = kv_rows < T::kRows ? T::kRows : kv_rows;
      weights += most * bf16_prepared_bytes<T>(head_size);
      end = weights + T::kRows * bf16_prepared_bytes<T>(kv_rows);
    }
  }
};

constexpr std::size_t kLine = 64;

// Enough for the tiles T and U.
template <class T, class U>
std::size_t attention_scratch(std::size_t, std::size_t kv_rows, std::size_t head_size) {
  const std::size_t bytes = larger(AttentionScratch<T>(kv_rows, head_size).end,
                                   AttentionScratch<U>(kv_rows, head_size).end);
  return (bytes + kLine) / sizeof(float);
}

// V (rows, cols) to panels of kColumns columns and kDepth rows a step; zeros beyond.
template <class T>
void pack_values(const float* v, std::size_t stride, std::size_t rows, std::size_t cols,
                 std::byte* panels) {
  using V = typename T::V;
  for (std::size_t begin = 0; begin < cols; begin += kColumns<T>) {
    for (std::size_t r = 0; r < rows; r += T::kDepth) {
      for (std::size_t column = begin; column < begin + kColumns<T>; column += kLanes<V>) {
        V parts[T::kDepth];
        for (std::size_t i = 0; i < T::kDepth; ++i) {
          const bool inside = r + i < rows && column < cols;
          parts[i] = inside ? load_up_to<V>(v + (r + i) * stride + column, cols - column) : V(0.0f);
        }
        store_vector(floats_at(panels), T::cells(parts));
        panels += kVectorBytes<T>;
      }
    }
  }
}

// c (m, n) = a (m, k) times packed panels; a is converted into `rows` first where T needs that.
template <class T>
void product(const float* a, std::size_t a_stride, std::byte* rows, const std::byte* panels,
             float* c, std::size_t c_stride, std::size_t m, std::size_t n, std::size_t k) {
  MatmulArgs args = {.a = a,
                     .a_stride_bytes = a_stride * sizeof(float),
                     .packed = panels,
                     .bias = nullptr,
                     .c = c,
                     .c_stride = c_stride,
                     .m = m,
                     .n = n,
                     .k = k,
                     .n_begin = 0,
                     .n_end = n};
  if constexpr (kConverts<T>) {
    bf16_prepare<T>(a, a_stride, nullptr, m, k, rows);
    args.a = rows;
    args.a_stride_bytes = bf16_prepared_bytes<T>(k);
  }
  multiply<T>(args);
}

template <class T>
void pack_keys(const float* k, std::size_t stride, std::size_t rows, std::size_t cols,
               std::byte* converted, std::byte* packed) {
  if constexpr (kConverts<T>) {
    bf16_prepare<T>(k, stride, nullptr, rows, cols, converted);
    pack_cells<T>(converted, bf16_prepared_bytes<T>(cols), 0, rows, rows, cols, packed);
  } else {
    pack_cells<T>(reinterpret_cast<const std::byte*>(k), stride * sizeof(float), 0, rows, rows,
                  cols, packed);
  }
}

// One head; q, k, v and out point at its columns. `scratch` is aligned.
template <class T>
void attention_head(const AttentionArgs& a, std::byte* scratch) {
  using V = typename T::V;
  const AttentionScratch<T> parts(a.kv_rows, a.head_size);
  auto* scores = floats_at(scratch + parts.scores);
  pack_keys<T>(a.k, a.k_stride, a.kv_rows, a.head_size, scratch + parts.rows, scratch);
  pack_values<T>(a.v, a.v_stride, a.kv_rows, a.head_size, scratch + parts.values);
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(a.head_size));

  const float* q = a.q;
  float* out = a.out;
  const std::size_t blocks = (a.q_rows + T::kRows - 1) / T::kRows;
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::size_t rows = a.q_rows / blocks + (block < a.q_rows % blocks ? 1 : 0);
    product<T>(q, a.q_stride, scratch + parts.rows, scratch, scores, parts.score_stride, rows,
               parts.score_stride, a.head_size);
    float scales[T::kRows];
    for (std::size_t r = 0; r < rows; ++r) {
      scales[r] = 1.0f / exp_row<V>(scores + r * parts.score_stride, a.kv_rows, scale);
    }
    product<T>(scores, parts.score_stride, scratch + parts.weights, scratch + parts.values, out,
               a.out_stride, rows, a.head_size, a.kv_rows);
    for (std::size_t r = 0; r < rows; ++r) {
      scale_row<V>(out + r * a.out_stride, a.head_size, scales[r]);
    }
    q += rows * a.q_stride;
    out += rows * a.out_stride;
  }
}

template <class T>
void attention(const AttentionArgs& a) {
  auto* bytes = reinterpret_cast<std::byte*>(a.scratch);
  bytes += (kLine - reinterpret_cast<std::uintptr_t>(bytes) % kLine) % kLine;
  for (std::size_t head = a.head_begin; head < a.head_end; ++head) {
    AttentionArgs one = a;
    const std::size_t offset = head * a.head_size;
    one.q += offset;
    one.k += offset;
    one.v += offset;
    one.out += offset;
    attention_head<T>(one, bytes);
  }
}

}  // namespace
}  // namespace splitee::kernels
