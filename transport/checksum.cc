#include "transport/checksum.h"

#include <bit>
#include <cstring>

#include "runtime/hash.h"
#include "runtime/status.h"

namespace splitee::transport {

static_assert(std::endian::native == std::endian::little, "words are read as they lie in memory");

void PayloadChecksum::add_groups(const std::byte* bytes, std::size_t groups) {
  // Local, so that the compiler keeps them in registers.
  Lanes even = even_, odd = odd_, even_sums = even_sums_, odd_sums = odd_sums_;
  for (std::size_t group = 0; group < groups; ++group) {
    Lanes words;
    std::memcpy(words.data(), bytes + group * kGroupBytes, kGroupBytes);
    for (std::size_t i = 0; i < kPairs; ++i) {
      even[i] += words[i] & 0xffffffffu;
      odd[i] += words[i] >> 32;
      even_sums[i] += even[i];
      odd_sums[i] += odd[i];
    }
  }
  even_ = even;
  odd_ = odd;
  even_sums_ = even_sums;
  odd_sums_ = odd_sums;
}

void PayloadChecksum::add(std::span<const std::byte> bytes) {
  SPLITEE_CHECK(size_ % kGroupBytes == 0);
  size_ += bytes.size();
  const std::size_t groups = bytes.size() / kGroupBytes;
  add_groups(bytes.data(), groups);
  if (const std::size_t rest = bytes.size() % kGroupBytes; rest != 0) {
    std::array<std::byte, kGroupBytes> last{};
    std::memcpy(last.data(), bytes.data() + groups * kGroupBytes, rest);
    add_groups(last.data(), 1);
  }
}

std::uint64_t PayloadChecksum::value() const {
  std::array<std::uint64_t, 1 + 4 * kPairs> words;
  words[0] = size_;
  for (std::size_t i = 0; i < kPairs; ++i) {
    words[1 + 2 * i] = even_[i];
    words[2 + 2 * i] = odd_[i];
    words[1 + 2 * (kPairs + i)] = even_sums_[i];
    words[2 + 2 * (kPairs + i)] = odd_sums_[i];
  }
  return runtime::content_hash(std::as_bytes(std::span(words)));
}

std::uint64_t payload_checksum(std::span<const std::byte> payload) {
  PayloadChecksum checksum;
  checksum.add(payload);
  return checksum.value();
}

}  // namespace splitee::transport
