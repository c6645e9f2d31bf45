// bfloat16 on targets without its dot product: rows of A are rounded and kept as floats, W stays
// packed in pairs of bfloat16 and is widened where it is multiplied.
#pragma once

#include "kernels/simd/f32-inl.h"

namespace splitee::kernels {
namespace {

template <class V>
struct VectorPair {
  V even, odd;
};

// To nearest even; a NaN stays one.
template <class V>
V round_to_bfloat16(V v) {
  const Ints<V> bits = bits_of(v);
  const Ints<V> rounded =
      (bits + 0x7fff + ((bits >> 16) & 1)) & static_cast<std::int32_t>(0xffff0000);
  return xsimd::select(v == v, vector_of<V>(rounded), v);
}

template <class V, std::size_t kRowsOfTile, std::size_t kVectorsOfTile, std::size_t kStepsOfBlock>
struct Bf16Wide : FloatSums<V> {
  static constexpr std::size_t kRows = kRowsOfTile, kVectors = kVectorsOfTile;
  static constexpr std::size_t kBlock = kStepsOfBlock;
  static constexpr std::size_t kDepth = 2, kCell = 4, kLeft = 2 * sizeof(float);
  static constexpr bool kWritesFixed = false;
  using Left = VectorPair<V>;
  using Right = VectorPair<V>;
  static Left left(const std::byte* a) {
    return {load_everywhere<V>(a), load_everywhere<V>(a + sizeof(float))};
  }
  static Right right(const std::byte* b) {
    const Ints<V> pairs = bits_of(load_vector<V>(floats_at(b)));
    return {vector_of<V>(pairs << 16), vector_of<V>(pairs & static_cast<std::int32_t>(0xffff0000))};
  }
  static V dot(const Left& a, const Right& b, V sum) {
    return multiply_add(a.odd, b.odd, multiply_add(a.even, b.even, sum));
  }
  static void store_left(std::byte* to, V values) {
    store_vector(floats_at(to), round_to_bfloat16(values));
  }
};

template <class T>
std::size_t bf16_prepared_bytes(std::size_t k) {
  return (steps_of<T>(k) * T::kLeft + 63) / 64 * 64;
}

template <class T>
void bf16_prepare(const float* a, std::size_t a_stride, const float*, std::size_t rows,
                  std::size_t k, void* prepared) {
  using V = typename T::V;
  const std::size_t bytes = bf16_prepared_bytes<T>(k);
  auto* row = static_cast<std::byte*>(prepared);
  for (std::size_t r = 0; r < rows; ++r, row += bytes) {
    std::byte* to = row;
    for (std::size_t i = 0; i < k; i += kLanes<V>, to += kLanes<V> * T::kLeft / T::kDepth) {
      T::store_left(to, load_up_to<V>(a + r * a_stride + i, k - i));
    }
    __builtin_memset(to, 0, static_cast<std::size_t>(row + bytes - to));
  }
}

template <class T>
void bf16_pack_rows(const void* w, const float*, std::size_t row, std::size_t rows, std::size_t n,
                    std::size_t k, void* packed) {
  pack_cells<T>(static_cast<const std::byte*>(w), k * sizeof(std::uint16_t), row, rows, n, k,
                static_cast<std::byte*>(packed));
}

template <class T>
constexpr Matmul bf16_matmul(void (*product)(const MatmulArgs&) = multiply<T>) {
  return {.columns = kColumns<T>,
          .head_bytes = T::kHeader,
          .value_bytes = T::kLeft / T::kDepth,
          .byte_zero = 0,
          .prepared_bytes = bf16_prepared_bytes<T>,
          .prepare = bf16_prepare<T>,
          .packed_bytes = packed_bytes<T>,
          .pack_rows = bf16_pack_rows<T>,
          .multiply = product};
}

}  // namespace
}  // namespace splitee::kernels
