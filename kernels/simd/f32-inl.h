// float32 in the tiles of tile-inl.h.
#pragma once

#include "kernels/simd/pack-inl.h"
#include "kernels/simd/tile-inl.h"

namespace splitee::kernels {
namespace {

// What the arithmetics whose sums are floats share.
template <class VectorType>
struct FloatSums {
  using V = VectorType;
  using Sum = V;
  static constexpr std::size_t kHeader = 0, kTrailer = 0, kCuts = 1, kRowsOfSum = 1;
  static constexpr std::size_t padded_steps(std::size_t steps) { return steps; }
  static Sum begin(const std::byte*, std::size_t) { return V(0.0f); }
  static Sum load(const float* c) { return load_vector<V>(c); }
  static void store(float* c, Sum sum) { store_vector(c, sum); }
  static V value(Sum sum, const std::byte*, std::size_t, const std::byte*) { return sum; }
};

template <class V, std::size_t kRowsOfTile, std::size_t kVectorsOfTile, std::size_t kStepsOfBlock>
struct F32 : FloatSums<V> {
  static constexpr std::size_t kRows = kRowsOfTile, kVectors = kVectorsOfTile;
  static constexpr std::size_t kBlock = kStepsOfBlock;
  static constexpr std::size_t kDepth = 1, kCell = sizeof(float), kLeft = sizeof(float);
  static constexpr bool kWritesFixed = false;
  using Left = V;
  using Right = V;
  static Left left(const std::byte* a) { return load_everywhere<V>(a); }
  static Right right(const std::byte* b) { return load_vector<V>(floats_at(b)); }
  static V dot(Left a, Right b, V sum) { return multiply_add(a, b, sum); }
  // The cells of kLanes<V> columns from the kDepth rows that they take their values from.
  static V cells(const V (&rows)[1]) { return rows[0]; }
};

// Never asked for: A is taken as it is.
inline std::size_t f32_prepared_bytes(std::size_t k) {
  return (k * sizeof(float) + 63) / 64 * 64;
}

template <class T>
void f32_pack_rows(const void* w, const float*, std::size_t row, std::size_t rows, std::size_t n,
                   std::size_t k, void* packed) {
  pack_cells<T>(static_cast<const std::byte*>(w), k * sizeof(float), row, rows, n, k,
                static_cast<std::byte*>(packed));
}

template <class T>
constexpr Matmul f32_matmul() {
  return {.columns = kColumns<T>,
          .head_bytes = T::kHeader,
          .value_bytes = T::kLeft / T::kDepth,
          .byte_zero = 0,
          .prepared_bytes = f32_prepared_bytes,
          .prepare = nullptr,
          .packed_bytes = packed_bytes<T>,
          .pack_rows = f32_pack_rows<T>,
          .multiply = multiply<T>};
}

}  // namespace
}  // namespace splitee::kernels
