// Random numbers that are the same on every platform and in every standard library.
// Generator: PCG-XSH-RR 64/32 (M. E. O'Neill, "PCG: A Family of Simple Fast Space-Efficient
// Statistically Good Algorithms for Random Number Generation", 2014). Its period is 2^64; the seed
// is spread by the finalizer of SplitMix64 (Steele, Lea and Flood 2014), so that seeds 0, 1, 2, ...
// give unrelated streams. Not for cryptography.
// Thread rule: one thread at a time.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace splitee {

inline std::uint64_t mix_seed(std::uint64_t seed) {
  std::uint64_t x = seed + 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class Rng {
 public:
  explicit Rng(std::uint64_t seed) : state_(mix_seed(seed)) {}

  std::uint32_t next() {
    const std::uint64_t old = state_;
    state_ = old * 6364136223846793005u + 1442695040888963407u;
    const auto folded = static_cast<std::uint32_t>(((old >> 18) ^ old) >> 27);
    return std::rotr(folded, static_cast<int>(old >> 59));
  }

  // Uniform in 0 .. bound - 1, without bias (Lemire 2019). bound >= 1.
  std::uint32_t below(std::uint32_t bound) {
    std::uint64_t product = std::uint64_t{next()} * bound;
    if (static_cast<std::uint32_t>(product) < bound) {
      const std::uint32_t threshold = (0u - bound) % bound;
      while (static_cast<std::uint32_t>(product) < threshold) {
        product = std::uint64_t{next()} * bound;
      }
    }
    return static_cast<std::uint32_t>(product >> 32);
  }

  // Uniform in [0, 1), 53 random bits.
  double uniform() {
    const std::uint64_t high = next();
    return static_cast<double>((high << 21) ^ (std::uint64_t{next()} >> 11)) * 0x1p-53;
  }

  // The whole state; what a saved policy keeps.
  std::uint64_t state() const { return state_; }
  void set_state(std::uint64_t state) { state_ = state; }

 private:
  std::uint64_t state_;
};

// Fisher and Yates' shuffle. At most 2^32 - 1 items.
template <class T>
void shuffle(std::span<T> items, Rng& rng) {
  for (std::size_t i = items.size(); i > 1; --i) {
    std::swap(items[i - 1], items[rng.below(static_cast<std::uint32_t>(i))]);
  }
}

}  // namespace splitee
