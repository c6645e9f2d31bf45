#include "base/hash.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/status.h"

namespace splitee {
namespace {

static_assert(std::endian::native == std::endian::little, "words are read as they lie in memory");

constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15u;
constexpr std::size_t kWordBytes = sizeof(std::uint64_t);

[[gnu::always_inline]] inline std::uint64_t mix(std::uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdu;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53u;
  x ^= x >> 33;
  return x;
}

// The sum of the terms of `words` words at `from`; `key` is that of the word before. One body for
// every instruction set: the compiler vectorises it where that has 64-bit products.
[[gnu::always_inline]] inline std::uint64_t sum_words(const std::byte* from, std::size_t words,
                                                      std::uint64_t key) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < words; ++i) {
    std::uint64_t word;
    std::memcpy(&word, from + i * kWordBytes, kWordBytes);
    sum += mix(word ^ (key + (static_cast<std::uint64_t>(i) + 1) * kStep));
  }
  return sum;
}

std::uint64_t sum_words_plain(const std::byte* from, std::size_t words, std::uint64_t key) {
  return sum_words(from, words, key);
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512dq"))) std::uint64_t sum_words_avx512(const std::byte* from,
                                                                           std::size_t words,
                                                                           std::uint64_t key) {
  return sum_words(from, words, key);
}
#endif

using SumWords = std::uint64_t (*)(const std::byte*, std::size_t, std::uint64_t);

SumWords best_sum_words() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) {
    return sum_words_avx512;
  }
#endif
  return sum_words_plain;
}

}  // namespace

std::uint64_t content_hash_terms(std::span<const std::byte> bytes, std::size_t first_word) {
  static const SumWords sum_of = best_sum_words();
  const std::size_t words = bytes.size() / kWordBytes;
  const std::uint64_t key = static_cast<std::uint64_t>(first_word) * kStep;
  std::uint64_t sum = sum_of(bytes.data(), words, key);
  if (const std::size_t rest = bytes.size() % kWordBytes; rest != 0) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + words * kWordBytes, rest);
    sum += mix(word ^ (key + (static_cast<std::uint64_t>(words) + 1) * kStep));
  }
  return sum;
}

std::uint64_t content_hash_finish(std::uint64_t sum, std::size_t size) {
  return mix(sum + static_cast<std::uint64_t>(size) * kStep);
}

std::uint64_t content_hash(std::span<const std::byte> bytes) {
  return content_hash_finish(content_hash_terms(bytes, 0), bytes.size());
}

std::uint64_t content_hash_zeroing(std::span<const std::byte> bytes, std::size_t offset) {
  SPLITEE_CHECK(bytes.size() >= kWordBytes && offset <= bytes.size() - kWordBytes);
  // The zeroed bytes lie in at most two words, which are taken from a patched copy.
  const std::size_t begin = offset / kWordBytes * kWordBytes;
  const std::size_t end = std::min(begin + 2 * kWordBytes, bytes.size());
  std::array<std::byte, 2 * kWordBytes> patched{};
  std::copy(bytes.begin() + begin, bytes.begin() + end, patched.begin());
  std::fill_n(patched.begin() + (offset - begin), kWordBytes, std::byte{0});
  const std::uint64_t sum =
      content_hash_terms(bytes.first(begin), 0) +
      content_hash_terms(std::span(patched).first(end - begin), begin / kWordBytes) +
      content_hash_terms(bytes.subspan(end), end / kWordBytes);
  return content_hash_finish(sum, bytes.size());
}

std::string hash_to_string(std::uint64_t hash) {
  std::string text(16, '0');
  for (std::size_t i = text.size(); i-- > 0; hash >>= 4) text[i] = "0123456789abcdef"[hash & 15];
  return text;
}

}  // namespace splitee
