#include "base/hash.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/base/bytes.h"

using splitee::content_hash;
using splitee::content_hash_finish;
using splitee::content_hash_terms;
using splitee::content_hash_zeroing;
using splitee::hash_to_string;
using splitee::testing::as_bytes;

namespace {

std::string ramp(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i);
  return bytes;
}

}  // namespace

TEST_CASE("content_hash: vectors computed with Python's integers from the definition") {
  const std::vector<std::pair<std::string, std::uint64_t>> vectors = {
      {"", 0},
      {std::string(1, '\0'), 0x79cfc3dbe5bbfcafu},
      {std::string(8, '\0'), 0xc34e85d763c4d9e4u},
      {"a", 0x5f2a2c1844d01b4au},
      {"abcdefgh", 0x3ecd1c13d0fdb1a5u},
      {"abcdefghi", 0xbcc0ecfa7df1a579u},
      {std::string(9, '\0'), 0xe04fc94178628401u},
      {ramp(1024) + "xyz", 0xc9d7d086ce9fc487u}};
  for (const auto& [bytes, hash] : vectors) {
    CHECK(hash_to_string(content_hash(as_bytes(bytes))) == hash_to_string(hash));
  }
}

TEST_CASE("content_hash: every flipped bit is found") {
  std::string bytes = ramp(133);
  const std::uint64_t before = content_hash(as_bytes(bytes));
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    CAPTURE(bit);
    CHECK(content_hash(as_bytes(bytes)) != before);
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
  }
}

TEST_CASE("content_hash_zeroing: as if the 8 bytes were zero, wherever they lie") {
  for (const std::size_t size : {8u, 15u, 16u, 17u, 40u, 43u}) {
    const std::string bytes = ramp(size);
    for (std::size_t offset = 0; offset + 8 <= size; ++offset) {
      CAPTURE(size);
      CAPTURE(offset);
      std::string zeroed = bytes;
      zeroed.replace(offset, 8, 8, '\0');
      CHECK(content_hash_zeroing(as_bytes(bytes), offset) == content_hash(as_bytes(zeroed)));
    }
  }
}

TEST_CASE("content_hash_terms: pieces of any whole number of words") {
  const std::string bytes = ramp(1021);
  for (std::size_t words = 0; words <= 127; ++words) {
    const auto all = as_bytes(bytes);
    const std::uint64_t sum = content_hash_terms(all.first(8 * words), 0) +
                              content_hash_terms(all.subspan(8 * words), words);
    CAPTURE(words);
    CHECK(content_hash_finish(sum, bytes.size()) == content_hash(all));
  }
}

TEST_CASE("hash_to_string: 16 lower-case digits") {
  CHECK(hash_to_string(0) == std::string("0000000000000000"));
  CHECK(hash_to_string(0xc9d7d086ce9fc487u) == std::string("c9d7d086ce9fc487"));
  CHECK(hash_to_string(0xab) == std::string("00000000000000ab"));
}
