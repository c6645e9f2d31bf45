// Gives a wire header the magic, version, size and checksum that its payload needs, so that the
// rules behind them are reached.
#pragma once

#include <cstring>
#include <string>

#include "runtime/hash.h"
#include "tests/fuzz/fuzz.h"
#include "transport/wire.h"

namespace splitee::fuzz {

inline void reseal(std::string& header, std::string_view payload) {
  if (header.size() != transport::kHeaderBytes) return;
  std::memcpy(header.data(), "SPLE\1\0", 6);
  header[6] = static_cast<char>(header[6] & 7);
  const std::uint64_t size = payload.size();
  std::memcpy(header.data() + 56, &size, sizeof size);
  const std::uint64_t payload_hash = runtime::content_hash(bytes_of(payload));
  std::memcpy(header.data() + 64, &payload_hash, sizeof payload_hash);
  const std::uint64_t sum = runtime::content_hash(bytes_of(header));
  std::memcpy(header.data() + 64, &sum, sizeof sum);
}

}  // namespace splitee::fuzz
