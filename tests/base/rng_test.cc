#include "base/rng.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include <doctest/doctest.h>

namespace splitee::policy {
namespace {

TEST_CASE("the generator is PCG-XSH-RR 64/32") {
  // One step worked out by hand from the published definition: state 0 has output 0 and is
  // followed by the increment; state 0x0123456789abcdef by the expression below.
  Rng rng(0);
  rng.set_state(0);
  CHECK(rng.next() == 0u);
  CHECK(rng.state() == 1442695040888963407u);
  rng.set_state(0x0123456789abcdefu);
  // ((s >> 18) ^ s) >> 27 = 0x2468a5eb (32 bits), rotated right by s >> 59 = 0.
  CHECK(rng.next() == 0x2468a5ebu);
}

TEST_CASE("draws below a bound are uniform") {
  Rng rng(7);
  std::vector<int> count(12);
  for (int i = 0; i < 120'000; ++i) ++count[rng.below(12)];
  for (const int c : count) CHECK(std::abs(c - 10'000) < 500);
  for (int i = 0; i < 100; ++i) CHECK(rng.below(1) == 0);
}

TEST_CASE("uniform() stays in [0, 1)") {
  Rng rng(7);
  double sum = 0;
  for (int i = 0; i < 100'000; ++i) {
    const double value = rng.uniform();
    REQUIRE(value >= 0.0);
    REQUIRE(value < 1.0);
    sum += value;
  }
  CHECK(sum / 100'000 == doctest::Approx(0.5).epsilon(0.01));
}

TEST_CASE("a shuffle is a permutation, another one for another seed") {
  const auto shuffled = [](std::uint64_t seed) {
    std::vector<int> items(100);
    std::iota(items.begin(), items.end(), 0);
    Rng rng(seed);
    shuffle(std::span(items), rng);
    return items;
  };
  std::vector<int> items = shuffled(1);
  CHECK(items == shuffled(1));
  CHECK(items != shuffled(2));
  std::ranges::sort(items);
  for (int i = 0; i < 100; ++i) CHECK(items[static_cast<std::size_t>(i)] == i);
}

}  // namespace
}  // namespace splitee::policy
