// What 64-bit NEON has an instruction for and 32-bit NEON has not, once for both.
#pragma once

#include "kernels/simd/vector-inl.h"

namespace splitee::kernels {
namespace {

#ifdef __aarch64__
using NeonArch = xsimd::neon64;
#else
using NeonArch = xsimd::neon;
#endif

// The 4 bytes at `p`, four times; the first 4 bytes to `p`.
inline int8x16_t load_cell(const std::byte* p) {
  return vreinterpretq_s8_s32(
      vld1q_dup_s32(static_cast<const std::int32_t*>(static_cast<const void*>(p))));
}
inline void store_cell(std::byte* p, int8x8_t bytes) {
  vst1_lane_s32(static_cast<std::int32_t*>(static_cast<void*>(p)), vreinterpret_s32_s8(bytes), 0);
}

// Pairs of bytes 0, 2, 4 and 6 in the lower half, 1, 3, 5 and 7 in the upper one.
inline int8x16_t even_then_odd_pairs(int8x16_t bytes) {
#ifdef __aarch64__
  constexpr std::uint8_t kOrder[16] = {0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15};
  return vqtbl1q_s8(bytes, vld1q_u8(kOrder));
#else
  const int16x8_t pairs = vreinterpretq_s16_s8(bytes);
  const int16x4x2_t parted = vuzp_s16(vget_low_s16(pairs), vget_high_s16(pairs));
  return vreinterpretq_s8_s16(vcombine_s16(parted.val[0], parted.val[1]));
#endif
}

// Of the 4 bytes at `p`, four times.
inline int8x16_t load_even_then_odd(const std::byte* p) {
#ifdef __aarch64__
  return even_then_odd_pairs(load_cell(p));
#else
  const auto* pairs = static_cast<const std::int16_t*>(static_cast<const void*>(p));
  return vreinterpretq_s8_s16(vcombine_s16(vld1_dup_s16(pairs), vld1_dup_s16(pairs + 1)));
#endif
}

// sum + the products of the upper halves.
inline int16x8_t multiply_add_high(int16x8_t sum, int8x16_t a, int8x16_t b) {
#ifdef __aarch64__
  return vmlal_high_s8(sum, a, b);
#else
  return vmlal_s8(sum, vget_high_s8(a), vget_high_s8(b));
#endif
}

}  // namespace
}  // namespace splitee::kernels
