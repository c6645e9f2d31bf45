// int8 for NEON: by the dot product instruction (SDOT) where the target has it, else by products of
// 8 bits, added in pairs. Products are at most 128 * 127, so that two of them fit 16 bits.
#pragma once

#include "kernels/simd/i8-inl.h"
#include "kernels/simd/neon-inl.h"

namespace splitee::kernels {
namespace {

// What does not depend on how products are made.
struct I8NeonRows : I8Scales<Vector<NeonArch>> {
  using V = Vector<NeonArch>;
  static constexpr std::size_t kTrailer = sizeof(float);
  static constexpr std::int32_t kOffset = 0, kByteZero = 127;
  static void store(float* c, int32x4_t sum) { vst1q_f32(c, vreinterpretq_f32_s32(sum)); }
  static V value(int32x4_t sum, const std::byte* trailer, std::size_t v, const std::byte* row) {
    return scaled(V(vcvtq_f32_s32(sum)), trailer, v, row);
  }
  static V fixed(int32x4_t sum, const std::byte* trailer, std::size_t v, const std::byte* row) {
    return scaled(V(vcvtq_f32_s32(sum)), trailer, v, row, kFixedOfOne);
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

template <std::size_t kRowsOfTile, std::size_t kVectorsOfTile, std::size_t kStepsOfBlock>
struct I8Neon : I8NeonRows {
  static constexpr std::size_t kRows = kRowsOfTile, kVectors = kVectorsOfTile;
  static constexpr std::size_t kBlock = kStepsOfBlock;
  static constexpr std::size_t kDepth = 4, kCell = 4, kLeft = 4;
  using Sum = int32x4_t;
#ifdef __ARM_FEATURE_DOTPROD
  using Left = int8x8_t;
  using Right = int8x16_t;
  static Left left(const std::byte* a) {
    return load_cell(a);
  }
  static Right right(const std::byte* b) {
    return vld1q_s8(static_cast<const std::int8_t*>(static_cast<const void*>(b)));
  }
  static Sum dot(Left a, Right b, Sum sum) {
    return vdotq_lane_s32(sum, b, a, 0);
  }
#else
  // Bytes 0 and 1 of four cells; 2 and 3.
  struct Halves {
    int8x8_t first, second;
  };
  using Left = Halves;
  using Right = Halves;
  static const std::int16_t* pairs_at(const std::byte* p) {
    return static_cast<const std::int16_t*>(static_cast<const void*>(p));
  }
  static Halves halves(int16x4x2_t parted) {
    return {vreinterpret_s8_s16(parted.val[0]), vreinterpret_s8_s16(parted.val[1])};
  }
  static Left left(const std::byte* a) {
    return halves(vld2_dup_s16(pairs_at(a)));
  }
  static Right right(const std::byte* b) {
    return halves(vld2_s16(pairs_at(b)));
  }
  static Sum dot(const Left& a, const Right& b, Sum sum) {
    return vpadalq_s16(sum, vmlal_s8(vmull_s8(a.first, b.first), a.second, b.second));
  }
#endif
  static Sum begin(const std::byte*, std::size_t) {
    return vdupq_n_s32(0);
  }
  static Sum load(const float* c) {
    return vreinterpretq_s32_f32(vld1q_f32(c));
  }
};

}  // namespace
}  // namespace splitee::kernels
