#include "runtime/hash.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "runtime/status.h"

namespace splitee::runtime {
namespace {

static_assert(std::endian::native == std::endian::little, "words are read as they lie in memory");

constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15u;
constexpr std::size_t kWordBytes = sizeof(std::uint64_t);

inline std::uint64_t mix(std::uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdu;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53u;
  x ^= x >> 33;
  return x;
}

// Sum of the terms of the words of `bytes`, the first of which is word `first` of the whole.
std::uint64_t sum_terms(std::span<const std::byte> bytes, std::size_t first) {
  std::uint64_t sum = 0;
  std::uint64_t key = static_cast<std::uint64_t>(first) * kStep;
  const std::size_t words = bytes.size() / kWordBytes;
  for (std::size_t i = 0; i < words; ++i) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data() + i * kWordBytes, kWordBytes);
    key += kStep;
    sum += mix(word ^ key);
  }
  if (const std::size_t rest = bytes.size() % kWordBytes; rest != 0) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + words * kWordBytes, rest);
    sum += mix(word ^ (key + kStep));
  }
  return sum;
}

std::uint64_t finish(std::uint64_t sum, std::size_t size) {
  return mix(sum + static_cast<std::uint64_t>(size) * kStep);
}

}  // namespace

std::uint64_t content_hash(std::span<const std::byte> bytes) {
  return finish(sum_terms(bytes, 0), bytes.size());
}

std::uint64_t content_hash_zeroing(std::span<const std::byte> bytes, std::size_t offset) {
  SPLITEE_CHECK(bytes.size() >= kWordBytes && offset <= bytes.size() - kWordBytes);
  // The zeroed bytes lie in at most two words, which are taken from a patched copy.
  const std::size_t begin = offset / kWordBytes * kWordBytes;
  const std::size_t end = std::min(begin + 2 * kWordBytes, bytes.size());
  std::array<std::byte, 2 * kWordBytes> patched{};
  std::copy(bytes.begin() + begin, bytes.begin() + end, patched.begin());
  std::fill_n(patched.begin() + (offset - begin), kWordBytes, std::byte{0});
  const std::uint64_t sum = sum_terms(bytes.first(begin), 0) +
                            sum_terms(std::span(patched).first(end - begin), begin / kWordBytes) +
                            sum_terms(bytes.subspan(end), end / kWordBytes);
  return finish(sum, bytes.size());
}

std::string hash_to_string(std::uint64_t hash) {
  std::string text(16, '0');
  for (std::size_t i = text.size(); i-- > 0; hash >>= 4) text[i] = "0123456789abcdef"[hash & 15];
  return text;
}

}  // namespace splitee::runtime
