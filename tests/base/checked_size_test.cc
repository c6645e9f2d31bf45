#include "base/checked_size.h"

#include <limits>

#include <doctest/doctest.h>

using splitee::CheckedSize;

constexpr std::size_t kMax = std::numeric_limits<std::size_t>::max();

TEST_CASE("CheckedSize: sums, products and rounding that fit") {
  CHECK((CheckedSize(3) + 4).value() == 7);
  CHECK((CheckedSize(3) * 4).value() == 12);
  CHECK((CheckedSize(kMax) + 0).value() == kMax);
  CHECK((CheckedSize(kMax / 2) * 2).value() == kMax - 1);
  CHECK(CheckedSize(0).round_up(32).value() == 0);
  CHECK(CheckedSize(1).round_up(32).value() == 32);
  CHECK(CheckedSize(32).round_up(32).value() == 32);
  CHECK(CheckedSize(kMax - 31).round_up(32).value() == kMax - 31);
}

TEST_CASE("CheckedSize: overflow is remembered") {
  CHECK_FALSE((CheckedSize(kMax) + 1).ok());
  CHECK_FALSE((CheckedSize(kMax / 2 + 1) * 2).ok());
  CHECK_FALSE(CheckedSize(kMax - 3).round_up(32).ok());
  // Wraps to 0, to 1 and to 4; and one that stays invalid when multiplied by 0.
  CHECK_FALSE((CheckedSize(kMax / 2 + 1) * 2 * 1).ok());
  CHECK_FALSE((CheckedSize(kMax) * kMax).ok());
  CHECK_FALSE((CheckedSize(4194305) * 4194305 * 211106198978564u).ok());
  CHECK_FALSE((CheckedSize(kMax) * 2 * 0).ok());
  CHECK_FALSE((CheckedSize(kMax) + 1 + 1).ok());
  CHECK_FALSE((CheckedSize(0) + (CheckedSize(kMax) + 1)).ok());
  CHECK_FALSE((CheckedSize(0) * (CheckedSize(kMax) + 1)).ok());
}

TEST_CASE("CheckedSize: at_most is false for what overflowed") {
  CHECK(CheckedSize(5).at_most(5));
  CHECK_FALSE(CheckedSize(6).at_most(5));
  CHECK_FALSE((CheckedSize(kMax) + 1).at_most(kMax));
}

TEST_CASE("CheckedSize: 64-bit sizes on 32-bit machines") {
  const std::uint64_t big = std::uint64_t{1} << 32;
  CHECK(CheckedSize(big).ok() == (sizeof(std::size_t) == 8));
}
