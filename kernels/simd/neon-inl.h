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

// The first 4 bytes to `p`.
inline void store_cell(std::byte* p, int8x8_t bytes) {
  vst1_lane_s32(static_cast<std::int32_t*>(static_cast<void*>(p)), vreinterpret_s32_s8(bytes), 0);
}

#ifdef __ARM_FEATURE_DOTPROD
// The 4 bytes at `p`, then zeros. By the instruction's name: the intrinsics there are fill a vector
// or one of its lanes, which takes a place in the pipes that multiply.
inline int8x8_t load_cell(const std::byte* p) {
  int8x8_t cell;
  asm("ldr %s0, %1"
      : "=w"(cell)
      : "m"(*static_cast<const std::int32_t*>(static_cast<const void*>(p))));
  return cell;
}
#endif

}  // namespace
}  // namespace splitee::kernels
