// 64-bit content hash of byte ranges: an integrity check and an identity, not cryptography.
//
// hash(bytes) = mix(sum over i of mix(w_i xor ((i + 1) * kStep)) + size * kStep)  (mod 2^64)
// w_i: the i-th little-endian 64-bit word, the last one padded with zero bytes;
// mix: the finalizer of MurmurHash3 (x ^= x >> 33; x *= 0xff51afd7ed558ccd; x ^= x >> 33;
//      x *= 0xc4ceb9fe1a85ec53; x ^= x >> 33); kStep = 0x9e3779b97f4a7c15.
// Every word's term is a bijection of the word, so any change within one word is always found;
// terms are independent, so that it vectorises here and in numpy.
// Thread rule: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace splitee {

std::uint64_t content_hash(std::span<const std::byte> bytes);

// The same of `bytes` with the 8 bytes from `offset` on taken as zero: the hash of a file that
// holds its own hash there. Precondition: offset + 8 <= bytes.size().
std::uint64_t content_hash_zeroing(std::span<const std::byte> bytes, std::size_t offset);

// For bytes that are read piece by piece: the sum of the terms of these bytes, whose first word is
// word `first_word` of the whole; only the last piece may end within a word. The hash of a whole of
// `size` bytes is that of the sum of its pieces' sums.
std::uint64_t content_hash_terms(std::span<const std::byte> bytes, std::size_t first_word);
std::uint64_t content_hash_finish(std::uint64_t sum, std::size_t size);

// 16 lower-case hex digits.
std::string hash_to_string(std::uint64_t hash);

}  // namespace splitee
