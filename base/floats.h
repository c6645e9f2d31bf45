// Half precision (IEEE 754 binary16), and numbers that are finite.
// Thread rule: free functions, re-entrant. Loops over them have no branches: compilers vectorise
// them for every instruction set.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

namespace splitee {

inline constexpr float kMaxHalf = 65504.0f;
inline constexpr std::uint32_t kFloatExponent = 0x7f800000u;
inline constexpr std::uint16_t kHalfExponent = 0x7c00u;

// Infinity or NaN.
inline bool half_is_special(std::uint16_t half) {
  return (half & kHalfExponent) == kHalfExponent;
}

// Exact. Moving its exponent into place leaves it 112 (127 - 15) too small, also for subnormals;
// infinity and NaN become the float of that kind.
inline float from_half(std::uint16_t half) {
  const auto magnitude = static_cast<std::uint32_t>(half & 0x7fffu) << 13;
  const auto sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const float scaled = std::bit_cast<float>(magnitude) * 0x1p112f;
  const std::uint32_t special = half_is_special(half) ? kFloatExponent : 0u;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scaled) | special | sign);
}

// Rounds to nearest, ties to even. |value| <= kMaxHalf.
inline std::uint16_t to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  // Normal halves: move the exponent's bias from 127 to 15, round at bit 13.
  const std::uint32_t normal =
      (magnitude - ((127u - 15u) << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Subnormal halves are multiples of 2^-24: adding 0.5 aligns their last bit with a float's.
  const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(aligned) - 0x3f000000u;
  const bool is_normal = magnitude >= ((127u - 14u) << 23);
  return static_cast<std::uint16_t>(sign | (is_normal ? normal : subnormal));
}

inline bool all_finite(std::span<const float> values) {
  std::uint32_t special = 0;
  for (const float value : values) {
    const bool is_special =
        (std::bit_cast<std::uint32_t>(value) & kFloatExponent) == kFloatExponent;
    special |= is_special ? 1u : 0u;
  }
  return special == 0;
}

}  // namespace splitee
