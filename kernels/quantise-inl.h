// How a row of A becomes int8, on every target (kernels.h, Matmul, i8).
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace splitee::kernels {
namespace {

// Bits of |value|: as integers they are ordered as the sizes are, infinity and then NaN on top.
inline std::int32_t magnitude_bits(float value) {
  return std::bit_cast<std::int32_t>(value) & 0x7fffffff;
}

struct RowScale {
  float scale;    // value = q * scale
  float inverse;  // q = round(value * inverse); zero where all q are to be zero
};

// Of a row whose largest magnitude_bits() is `largest_bits`.
inline RowScale row_scale(std::int32_t largest_bits) {
  const auto largest = std::bit_cast<float>(largest_bits);
  if (!(largest <= std::numeric_limits<float>::max())) {
    return {std::numeric_limits<float>::quiet_NaN(), 0.0f};
  }
  if (largest < 1e-30f) return {0.0f, 0.0f};
  return {largest / 127.0f, 127.0f / largest};
}

}  // namespace
}  // namespace splitee::kernels
