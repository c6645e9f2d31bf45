// Checked sizes against numbers twice as wide, at all pairs of the values where something may
// change: around every power of two.
#include <limits>
#include <vector>

#include <doctest/doctest.h>

#include "base/checked_size.h"

// Standard C++ has no such number; where the compiler has none, the other tests must do.
#ifdef __SIZEOF_INT128__

namespace splitee {
namespace {

__extension__ typedef unsigned __int128 Wide;
constexpr Wide kMost = std::numeric_limits<std::size_t>::max();

std::vector<std::uint64_t> borders() {
  std::vector<std::uint64_t> values = {0, 1, 2, 3, 4, 5, 6};
  for (unsigned bit = 3; bit < 64; ++bit) {
    const std::uint64_t power = std::uint64_t{1} << bit;
    values.insert(values.end(), {power - 1, power, power + 1, power + power / 2});
  }
  for (const std::uint64_t less : {0u, 1u, 2u, 31u, 32u, 63u, 4095u}) values.push_back(~less);
  values.push_back(~std::uint64_t{0});
  values.push_back(4'194'305);
  values.push_back(211'106'198'978'564u);
  return values;
}

bool right(const CheckedSize& size, Wide expected) {
  if (size.ok() != (expected <= kMost)) return false;
  return !size.ok() || size.value() == expected;
}

}  // namespace

TEST_CASE("CheckedSize: all sums, products and roundings of border values are as in wide numbers") {
  const std::vector<std::uint64_t> values = borders();
  for (const std::uint64_t a : values) {
    if (!right(CheckedSize(a), a)) FAIL(a);
    for (unsigned bit = 0; bit < 8 * sizeof(std::size_t); ++bit) {
      const Wide unit = Wide{1} << bit;
      const Wide up = (Wide{a} + unit - 1) / unit * unit;
      if (a <= kMost && !right(CheckedSize(a).round_up(static_cast<std::size_t>(unit)), up))
        FAIL(a);
    }
    for (const std::uint64_t b : values) {
      const bool fit = a <= kMost && b <= kMost;
      const CheckedSize sum = CheckedSize(a) + b, product = CheckedSize(a) * b;
      if (!right(sum, fit ? Wide{a} + b : kMost + 1)) FAIL(a, " + ", b);
      if (!right(product, fit ? Wide{a} * b : kMost + 1)) FAIL(a, " * ", b);
      const bool most = sum.ok() && sum.value() <= b;
      if (fit && sum.at_most(static_cast<std::size_t>(b)) != most) FAIL(a, " at most ", b);
    }
  }
}

TEST_CASE("CheckedSize: all a * b + c of border values, and what overflowed stays so") {
  const std::vector<std::uint64_t> values = borders();
  for (const std::uint64_t a : values) {
    for (const std::uint64_t b : values) {
      if (a > kMost || b > kMost) continue;
      const Wide product = Wide{a} * b;
      for (const std::uint64_t c : values) {
        // Once too large it is too large whatever follows, and 0 times it.
        const bool lost = product > kMost || c > kMost;
        if (!right(CheckedSize(a) * b + c, lost ? kMost + 1 : product + c)) FAIL(a, " ", b, " ", c);
        if (lost && (CheckedSize(a) * b * 0 + CheckedSize(c) * 0).ok()) FAIL(a, " ", b, " ", c);
      }
    }
  }
}

}  // namespace splitee

#endif
