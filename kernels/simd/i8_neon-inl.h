// int8 for NEON: by the dot product instruction (SDOT) where the target has it, else by products of
// 8 bits, added in pairs. Products are at most 128 * 127, so that two of them fit 16 bits.
#pragma once

#include "kernels/simd/i8-inl.h"
#include "kernels/simd/neon-inl.h"

namespace splitee::kernels {
namespace {

template <std::size_t kRowsOfTile, std::size_t kVectorsOfTile, std::size_t kStepsOfBlock>
struct I8Neon : I8Scales<Vector<NeonArch>> {
  using V = Vector<NeonArch>;
  static constexpr std::size_t kRows = kRowsOfTile, kVectors = kVectorsOfTile;
  static constexpr std::size_t kBlock = kStepsOfBlock;
  static constexpr std::size_t kDepth = 4, kCell = 4, kLeft = 4, kTrailer = sizeof(float);
  static constexpr std::int32_t kOffset = 0, kByteZero = 127;
  using Left = int8x16_t;
  using Right = int8x16_t;
  using Sum = int32x4_t;
#ifdef __ARM_FEATURE_DOTPROD
  static Left left(const std::byte* a) {
    return load_cell(a);
  }
  static Right arrange(int8x16_t cells) {
    return cells;
  }
  static Sum dot(Left a, Right b, Sum sum) {
    return vdotq_s32(sum, b, a);
  }
#else
  static Left left(const std::byte* a) {
    return load_even_then_odd(a);
  }
  // Bytes 0 and 1 of the four cells in the lower half, 2 and 3 in the upper one.
  static Right arrange(int8x16_t cells) {
    return even_then_odd_pairs(cells);
  }
  static Sum dot(Left a, Right b, Sum sum) {
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
    return vpadalq_s16(sum, multiply_add_high(low, a, b));
  }
#endif
  static Right right(const std::byte* b) {
    return arrange(vld1q_s8(reinterpret_cast<const std::int8_t*>(b)));
  }
  static Sum begin(const std::byte*, std::size_t) {
    return vdupq_n_s32(0);
  }
  static Sum load(const float* c) {
    return vreinterpretq_s32_f32(vld1q_f32(c));
  }
  static void store(float* c, Sum sum) {
    vst1q_f32(c, vreinterpretq_f32_s32(sum));
  }
  static V value(Sum sum, const std::byte* trailer, std::size_t v, const std::byte* row) {
    return I8Scales<V>::scaled(V(vcvtq_f32_s32(sum)), trailer, v, row);
  }
  static V fixed(Sum sum, const std::byte* trailer, std::size_t v, const std::byte* row) {
    return I8Scales<V>::scaled(V(vcvtq_f32_s32(sum)), trailer, v, row, kFixedOfOne);
  }
  static void store_lefts(std::byte* to, const Ints<V> (&q)[4]) {
    for (std::size_t i = 0; i < 4; ++i) store_left(to + i * kLanes<V>, q[i]);
  }
  static void store_units(std::byte* to, V units) {
    store_left(to, rounded_up_to(units, kByteSteps) - kByteZero);
  }
  static void store_left(std::byte* to, Ints<V> q) {
    const int16x4_t halves = vmovn_s32((int32x4_t)q);
    store_cell(to, vmovn_s16(vcombine_s16(halves, halves)));
  }
};

}  // namespace
}  // namespace splitee::kernels
