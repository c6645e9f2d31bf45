// Gives a wire header the magic, version, size and checks that its payload needs, so that the
// rules behind them are reached.
#pragma once

#include <cstring>
#include <span>
#include <string>

#include "tests/fuzz/fuzz.h"
#include "transport/wire/checksum.h"
#include "transport/wire/wire.h"

namespace splitee::fuzz {

inline void reseal(std::string& header, std::string_view payload) {
  if (header.size() != transport::kHeaderBytes) return;
  std::memcpy(header.data(), "SPLE\1\0", 6);
  header[6] = static_cast<char>(header[6] & 7);
  const std::uint64_t size = payload.size();
  std::memcpy(header.data() + 56, &size, sizeof size);
  const std::uint64_t sum = transport::payload_checksum(bytes_of(payload));
  std::memcpy(header.data() + 64, &sum, sizeof sum);
  const auto sealed = std::as_writable_bytes(std::span(header));
  transport::seal_header(sealed.first<transport::kHeaderBytes>());
}

}  // namespace splitee::fuzz
