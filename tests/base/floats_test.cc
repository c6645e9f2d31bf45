#include "base/floats.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <doctest/doctest.h>

namespace splitee {
namespace {

// By the definition of binary16.
double value_of(std::uint16_t half) {
  const int exponent = (half >> 10) & 0x1f;
  const double fraction = half & 0x3ff;
  const double sign = (half & 0x8000u) != 0 ? -1 : 1;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

TEST_CASE("every half is the number that its bits say, and comes back") {
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = from_half(half);
    CAPTURE(bits);
    if (half_is_special(half)) {
      REQUIRE_FALSE(std::isfinite(value));
      REQUIRE(std::isnan(value) == ((bits & 0x3ffu) != 0));
      continue;
    }
    REQUIRE(static_cast<double>(value) == value_of(half));
    REQUIRE(std::signbit(value) == ((bits & 0x8000u) != 0));
    REQUIRE(to_half(value) == half);
  }
}

TEST_CASE("what lies between two halves goes to the nearer one, from the middle to the even one") {
  for (std::uint32_t bits = 0; bits < 0x7bffu; ++bits) {
    const auto low = static_cast<std::uint16_t>(bits), high = static_cast<std::uint16_t>(bits + 1);
    const float middle = (from_half(low) + from_half(high)) / 2;
    CAPTURE(bits);
    REQUIRE(to_half(middle) == (bits % 2 == 0 ? low : high));
    REQUIRE(to_half(std::nextafter(middle, 0.0f)) == low);
    REQUIRE(to_half(std::nextafter(middle, kMaxHalf)) == high);
    REQUIRE(to_half(-middle) == (to_half(middle) | 0x8000u));
  }
}

TEST_CASE("one value that is not finite is found at every place") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  CHECK(all_finite({}));
  std::vector<float> values(37, -std::numeric_limits<float>::max());
  CHECK(all_finite(values));
  for (std::size_t i = 0; i < values.size(); ++i) {
    for (const float bad : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
      std::vector<float> one = values;
      one[i] = bad;
      CHECK_FALSE(all_finite(one));
    }
  }
}

}  // namespace
}  // namespace splitee
