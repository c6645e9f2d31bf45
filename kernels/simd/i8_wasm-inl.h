// int8 for WebAssembly, which multiplies pairs of 16 bits and adds them, but knows nothing like
// pmaddubsw: both factors are widened, W once for all rows of a tile. Cells are those of
// i8_maddubs-inl.h, and so are the sums of whole columns, to the bit.
#pragma once

#include <wasm_simd128.h>

#include "kernels/simd/i8_maddubs-inl.h"

namespace splitee::kernels {
namespace {

template <class VectorType, std::size_t kRowsOfTile, std::size_t kVectorsOfTile,
          std::size_t kStepsOfBlock>
struct I8Wasm : I8Maddubs<VectorType, kRowsOfTile, kVectorsOfTile, kStepsOfBlock> {
  using V = VectorType;
  using Base = I8Maddubs<VectorType, kRowsOfTile, kVectorsOfTile, kStepsOfBlock>;
  using Left = v128_t;  // the four values of a step, twice
  // Of two columns each: their values, and their sums, one of the first two values of each step and
  // one of the others.
  struct Right {
    v128_t low, high;
  };
  struct Sum {
    Ints<V> low, high;
  };
  static Left left(const std::byte* a) {
    return wasm_i16x8_extend_low_i8x16(wasm_v128_load32_splat(a));
  }
  static Right right(const std::byte* b) {
    return {wasm_i16x8_load8x8(b), wasm_i16x8_load8x8(b + 8)};
  }
  static Sum dot(Left a, const Right& b, Sum sum) {
    return {sum.low + (Ints<V>)wasm_i32x4_dot_i16x8(a, b.low),
            sum.high + (Ints<V>)wasm_i32x4_dot_i16x8(a, b.high)};
  }
  static Sum begin(const std::byte*, std::size_t) { return {}; }
  static Sum load(const float* c) {
    const auto sums = (Ints<V>)load_ints(c);
    const Ints<V> zero{};
    return {__builtin_shufflevector(sums, zero, 0, 4, 1, 4),
            __builtin_shufflevector(sums, zero, 2, 4, 3, 4)};
  }
  static void store(float* c, const Sum& sum) { Base::store(c, whole(sum)); }
  static V value(const Sum& sum, const std::byte* trailer, std::size_t v, const std::byte* row) {
    return Base::value(whole(sum), trailer, v, row);
  }
  static V fixed(const Sum& sum, const std::byte* trailer, std::size_t v, const std::byte* row) {
    return Base::fixed(whole(sum), trailer, v, row);
  }

 private:
  static typename Base::Sum whole(const Sum& sum) {
    return (typename Base::Sum)(__builtin_shufflevector(sum.low, sum.high, 0, 2, 4, 6) +
                                __builtin_shufflevector(sum.low, sum.high, 1, 3, 5, 7));
  }
};

}  // namespace
}  // namespace splitee::kernels
