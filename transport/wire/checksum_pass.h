// One pass over the whole groups of a payload (transport/wire/checksum.h): sums them up, looks for
// floats that are not finite, and copies them if asked, with the widest vectors of this CPU. All
// variants give the same numbers. Thread rule: free functions, re-entrant.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace splitee::transport {

inline constexpr std::size_t kGroupBytes = 32;

// Of the groups' 64-bit words p, each a pair of 32-bit words; mod 2^64.
struct GroupSums {
  using Lanes = std::array<std::uint64_t, kGroupBytes / 8>;
  Lanes pairs{};       // of p
  Lanes odd{};         // of p >> 32
  Lanes pairs_sum{};   // over the groups, of pairs so far
  Lanes odd_sum{};     // of odd so far
  bool finite = true;  // no 32-bit word is an infinity or a NaN as binary32
};

// Adds `groups` groups at `in` to `sums`; copies them to `out` where that is not null, which must
// not overlap `in`.
using ChecksumPass = void (*)(const std::byte* in, std::byte* out, std::size_t groups,
                              GroupSums& sums);

struct NamedPass {
  const char* name;
  ChecksumPass pass;
};
// Those that run on this CPU, the fastest first.
std::span<const NamedPass> checksum_passes();

}  // namespace splitee::transport
