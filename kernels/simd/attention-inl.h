// Attention, head by head, in the tiles of the matmul: K is packed as a weight would be, V is
// copied into panels, and for a few rows of q at a time the scores stay in the cache between
// q k^T, softmax and the product with V.
#pragma once

#include "kernels/simd/f32-inl.h"
#include "kernels/simd/rows-inl.h"

namespace splitee::kernels {
namespace {

// Parts of the scratch, in floats.
template <class T>
struct AttentionScratch {
  std::size_t keys;    // packed (kv_rows, head_size)
  std::size_t values;  // panels of V, (kv_rows, kColumns) each
  std::size_t scores;  // (T::kRows, score_stride)
  std::size_t score_stride;

  AttentionScratch(std::size_t kv_rows, std::size_t head_size)
      : keys(packed_bytes<T>(kv_rows, head_size) / sizeof(float)),
        values(packed_bytes<T>(head_size, kv_rows) / sizeof(float)),
        scores(T::kRows * packed_bytes<T>(kv_rows, 1) / sizeof(float)),
        score_stride(packed_bytes<T>(kv_rows, 1) / sizeof(float)) {}
};

template <class T>
std::size_t attention_scratch(std::size_t, std::size_t kv_rows, std::size_t head_size) {
  const AttentionScratch<T> scratch(kv_rows, head_size);
  return scratch.keys + scratch.values + scratch.scores;
}

// V (rows, cols) to panels of kColumns columns, zeros beyond cols.
template <class T>
void copy_panels(const float* v, std::size_t stride, std::size_t rows, std::size_t cols,
                 float* panels) {
  using V = typename T::V;
  for (std::size_t begin = 0; begin < cols; begin += kColumns<T>) {
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t i = 0; i < kColumns<T>; i += kLanes<V>, panels += kLanes<V>) {
        const std::size_t column = begin + i;
        const float* from = v + r * stride + column;
        if (column + kLanes<V> <= cols) {
          store_vector(panels, load_vector<V>(from));
        } else {
          store_vector(panels, column < cols ? load_first<V>(from, cols - column, 0.0f) : V(0.0f));
        }
      }
    }
  }
}

// c (m, n) = a (m, k) times packed panels.
template <class T>
void product(const float* a, std::size_t a_stride, const float* panels, float* c,
             std::size_t c_stride, std::size_t m, std::size_t n, std::size_t k) {
  multiply<T>({.a = a,
               .a_stride_bytes = a_stride * sizeof(float),
               .packed = panels,
               .bias = nullptr,
               .c = c,
               .c_stride = c_stride,
               .m = m,
               .n = n,
               .k = k,
               .n_begin = 0,
               .n_end = n});
}

// One head; q, k, v and out point at its columns.
template <class T>
void attention_head(const float* q, std::size_t q_stride, const float* k, std::size_t k_stride,
                    const float* v, std::size_t v_stride, float* out, std::size_t out_stride,
                    std::size_t q_rows, std::size_t kv_rows, std::size_t head_size,
                    float* scratch) {
  const AttentionScratch<T> parts(kv_rows, head_size);
  float* keys = scratch;
  float* values = keys + parts.keys;
  float* scores = values + parts.values;
  pack_cells<T>(reinterpret_cast<const std::byte*>(k), k_stride * sizeof(float), 0, kv_rows,
                kv_rows, head_size, reinterpret_cast<std::byte*>(keys));
  copy_panels<T>(v, v_stride, kv_rows, head_size, values);
  const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(head_size));

  const std::size_t blocks = (q_rows + T::kRows - 1) / T::kRows;
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::size_t rows = q_rows / blocks + (block < q_rows % blocks ? 1 : 0);
    product<T>(q, q_stride, keys, scores, parts.score_stride, rows, kv_rows, head_size);
    float scales[T::kRows];
    for (std::size_t r = 0; r < rows; ++r) {
      scales[r] = 1.0f / exp_row<typename T::V>(scores + r * parts.score_stride, kv_rows, scale);
    }
    product<T>(scores, parts.score_stride, values, out, out_stride, rows, head_size, kv_rows);
    for (std::size_t r = 0; r < rows; ++r) {
      scale_row<typename T::V>(out + r * out_stride, head_size, scales[r]);
    }
    q += rows * q_stride;
    out += rows * out_stride;
  }
}

template <class T>
void attention(const float* q, std::size_t q_stride, const float* k, std::size_t k_stride,
               const float* v, std::size_t v_stride, float* out, std::size_t out_stride,
               std::size_t q_rows, std::size_t kv_rows, std::size_t head_size,
               std::size_t head_begin, std::size_t head_end, float* scratch) {
  for (std::size_t head = head_begin; head < head_end; ++head) {
    const std::size_t offset = head * head_size;
    attention_head<T>(q + offset, q_stride, k + offset, k_stride, v + offset, v_stride,
                      out + offset, out_stride, q_rows, kv_rows, head_size, scratch);
  }
}

}  // namespace
}  // namespace splitee::kernels
