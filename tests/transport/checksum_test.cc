#include "transport/wire/checksum.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "base/hash.h"

namespace splitee::transport {
namespace {

using Bytes = std::vector<std::byte>;

Bytes random_bytes(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  Bytes bytes(size);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

// Word by word, as the header describes it.
std::uint64_t by_the_book(Bytes bytes) {
  std::vector<std::uint64_t> words(17);
  words[0] = bytes.size();
  bytes.resize((bytes.size() + 31) / 32 * 32);
  for (std::size_t i = 0; i < bytes.size() / 4; ++i) {
    std::uint32_t word;
    std::memcpy(&word, bytes.data() + 4 * i, 4);
    std::uint64_t& a = words[1 + i % 8];
    a += word;
    words[9 + i % 8] += a;
  }
  return content_hash(std::as_bytes(std::span(words)));
}

}  // namespace

TEST_CASE("the checksum is what its header says, in one piece or in many") {
  for (const std::size_t size : {0, 1, 3, 31, 32, 33, 63, 64, 95, 1'000, 4'096, 100'001}) {
    CAPTURE(size);
    const Bytes bytes = random_bytes(size, 7);
    CHECK(payload_checksum(bytes) == by_the_book(bytes));
    for (const std::size_t piece : {32, 64, 4'096}) {
      PayloadChecksum parts;
      std::span<const std::byte> rest = bytes;
      while (rest.size() > piece) {
        parts.add(rest.first(piece));
        rest = rest.subspan(piece);
      }
      parts.add(rest);
      CHECK(parts.value() == by_the_book(bytes));
    }
  }
}

TEST_CASE("every variant of the pass: the sums and the copy of the plainest") {
  const NamedPass& plain = checksum_passes().back();
  for (const NamedPass& variant : checksum_passes()) {
    MESSAGE("checksum pass: ", std::string(variant.name));
    for (std::size_t groups = 0; groups <= 9; ++groups) {
      CAPTURE(groups);
      // One byte off, so that nothing is aligned.
      const std::size_t size = groups * kGroupBytes;
      const Bytes bytes = random_bytes(size + 1, 9 + static_cast<unsigned>(groups));
      Bytes copy(size + 2, std::byte{0xa5});
      GroupSums expected, actual;
      // Twice: what was summed up before counts as well.
      for (int round = 0; round < 2; ++round) {
        plain.pass(bytes.data() + 1, nullptr, groups, expected);
        variant.pass(bytes.data() + 1, copy.data() + 1, groups, actual);
      }
      CHECK(actual.pairs == expected.pairs);
      CHECK(actual.odd == expected.odd);
      CHECK(actual.pairs_sum == expected.pairs_sum);
      CHECK(actual.odd_sum == expected.odd_sum);
      CHECK(std::equal(bytes.begin() + 1, bytes.end(), copy.begin() + 1));
      CHECK(copy.front() == std::byte{0xa5});
      CHECK(copy.back() == std::byte{0xa5});
    }
  }
}

TEST_CASE("every variant of the pass finds an infinity or a NaN at any place") {
  for (const NamedPass& variant : checksum_passes()) {
    for (std::size_t groups = 1; groups <= 5; ++groups) {
      std::vector<float> values(groups * kGroupBytes / 4, -3e38f);
      const auto finite = [&] {
        GroupSums sums;
        variant.pass(std::as_bytes(std::span(values)).data(), nullptr, groups, sums);
        return sums.finite;
      };
      CHECK(finite());
      for (float& value : values) {
        for (const float bad : {INFINITY, -INFINITY, NAN}) {
          value = bad;
          CHECK_FALSE(finite());
        }
        value = 1e-40f;
      }
      CHECK(finite());
    }
  }
}

TEST_CASE("the checksum sees swapped, moved, lost and added bytes") {
  const Bytes bytes = random_bytes(512, 8);
  const std::uint64_t sum = payload_checksum(bytes);
  for (std::size_t i = 0; i + 32 < bytes.size(); i += 4) {
    CAPTURE(i);
    Bytes changed = bytes;  // two words of a lane change places
    std::swap_ranges(changed.begin() + static_cast<std::ptrdiff_t>(i),
                     changed.begin() + static_cast<std::ptrdiff_t>(i + 4),
                     changed.begin() + static_cast<std::ptrdiff_t>(i + 32));
    CHECK(payload_checksum(changed) != sum);
    changed = bytes;  // the sign bits of two floats of a lane
    changed[i + 3] ^= std::byte{0x80};
    changed[i + 35] ^= std::byte{0x80};
    CHECK(payload_checksum(changed) != sum);
  }
  Bytes changed = bytes;
  changed.push_back(std::byte{0});
  CHECK(payload_checksum(changed) != sum);
  changed = bytes;
  std::fill(changed.begin() + 64, changed.begin() + 96, std::byte{0});
  CHECK(payload_checksum(changed) != sum);
  CHECK(payload_checksum(Bytes(32)) != payload_checksum(Bytes(64)));
}

}  // namespace splitee::transport
