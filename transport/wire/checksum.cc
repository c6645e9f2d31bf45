#include "transport/wire/checksum.h"

#include <array>
#include <cstring>

#include "base/hash.h"
#include "base/status.h"

namespace splitee::transport {

namespace {

void add_groups(const std::byte* in, std::byte* out, std::size_t groups, GroupSums& sums) {
  static const ChecksumPass pass = checksum_passes().front().pass;
  pass(in, out, groups, sums);
}

}  // namespace

void PayloadChecksum::add(std::span<const std::byte> bytes, std::byte* out) {
  SPLITEE_CHECK(size_ % kGroupBytes == 0);
  size_ += bytes.size();
  const std::size_t groups = bytes.size() / kGroupBytes;
  add_groups(bytes.data(), out, groups, sums_);
  const std::size_t whole = groups * kGroupBytes, rest = bytes.size() - whole;
  if (rest == 0) return;
  std::array<std::byte, kGroupBytes> last{};
  std::memcpy(last.data(), bytes.data() + whole, rest);
  if (out != nullptr) std::memcpy(out + whole, last.data(), rest);
  add_groups(last.data(), nullptr, 1, sums_);
}

std::uint64_t PayloadChecksum::value() const {
  constexpr std::size_t kLanes = GroupSums::Lanes().size();
  std::array<std::uint64_t, 1 + 4 * kLanes> words;
  words[0] = size_;
  for (std::size_t i = 0; i < kLanes; ++i) {
    // What the odd words have put into the sum of pairs is taken away again.
    words[1 + 2 * i] = sums_.pairs[i] - (sums_.odd[i] << 32);
    words[2 + 2 * i] = sums_.odd[i];
    words[1 + 2 * (kLanes + i)] = sums_.pairs_sum[i] - (sums_.odd_sum[i] << 32);
    words[2 + 2 * (kLanes + i)] = sums_.odd_sum[i];
  }
  return content_hash(std::as_bytes(std::span(words)));
}

std::uint64_t payload_checksum(std::span<const std::byte> payload) {
  PayloadChecksum checksum;
  checksum.add(payload);
  return checksum.value();
}

}  // namespace splitee::transport
