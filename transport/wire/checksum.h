// Checksum of a message's payload: finds accidents, at the speed of memory; authenticity is CURVE's
// work.
//
// The bytes, padded with zeros to a multiple of 32, are n groups of eight little-endian 32-bit
// words. Lane l (0 .. 7) sums up word l of every group: a[l] = sum of w, and b[l] = sum over the
// groups of a[l] so far, all mod 2^64. The checksum is
//   content_hash(size | a[0] .. a[7] | b[0] .. b[7])   (17 words of 64 bits, base/hash.h)
// Before the last hash nothing is lost for payloads below 2^36 bytes but what changes three or more
// words of one lane in a way that keeps both sums: every burst of up to 64 bytes and every pair of
// changed words is seen. Unlike a product or a table, sums vectorise with every instruction set.
// Thread rule: plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "transport/wire/checksum_pass.h"

namespace splitee::transport {

class PayloadChecksum {
 public:
  static constexpr std::size_t kGroupBytes = transport::kGroupBytes;

  // The next bytes, copied to `out` where that is not null. Every call but the last takes a
  // multiple of kGroupBytes.
  void add(std::span<const std::byte> bytes, std::byte* out = nullptr);
  // Of all bytes added.
  std::uint64_t value() const;
  // Whether all bytes added, taken as f32, are finite numbers.
  bool finite() const { return sums_.finite; }

 private:
  std::uint64_t size_ = 0;
  GroupSums sums_;
};

std::uint64_t payload_checksum(std::span<const std::byte> payload);

}  // namespace splitee::transport
