// Models as servers see them, and inputs, without a network behind.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "transport/server/backend.h"
#include "transport/wire/wire.h"

namespace splitee::transport::testing {

// Every layer gives (length, cols) and takes a million operations per unit; an input has four bytes
// per unit.
inline ModelShape uniform_shape(std::uint64_t model_hash, std::size_t layers, std::size_t cols,
                                std::size_t max_length, std::size_t classes) {
  runtime::LayerSizes layer;
  layer.cols = cols;
  layer.unit_operations = 1e6;
  ModelShape shape;
  shape.model_hash = model_hash;
  shape.max_length = max_length;
  shape.max_input_bytes = 4 * max_length;
  shape.sizes.assign(layers + 1, layer);
  shape.classes = classes;
  return shape;
}

// What a server sends, decoded; a refuse of version 1, which such a peer gets, as the refuse that
// it is.
inline Result<Message> decode_sent(const Frames& frames) {
  Frames copy{frames.header, Buffer(frames.payload.size())};
  std::ranges::copy(frames.payload.bytes(), copy.payload.bytes().begin());
  if (readable_version(copy.header) == 1) {
    copy.header[4] = std::byte{kProtocolVersion};
    seal_header(copy.header);
  }
  const std::span<const std::byte> parts[] = {copy.header, frames.payload.bytes()};
  return decode(parts);
}

// An input of these words.
inline runtime::PreparedView input_of(std::span<const std::int32_t> words) {
  return {words.size(), std::as_bytes(words)};
}

inline std::vector<std::int32_t> words_of(runtime::PreparedView input) {
  std::vector<std::int32_t> words(input.bytes.size() / sizeof(std::int32_t));
  if (!words.empty()) std::memcpy(words.data(), input.bytes.data(), 4 * words.size());
  return words;
}

}  // namespace splitee::transport::testing
