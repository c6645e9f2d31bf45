// Sample messages of every type for the tests of the wire format.
#pragma once

#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "transport/wire/checksum.h"
#include "transport/wire/wire.h"

namespace splitee::transport::wire_samples {

using Bytes = std::vector<std::byte>;
using View = std::span<const std::byte>;

inline constexpr Envelope kEnvelope{0x1122334455667788u, 0xa1a2a3a4a5a6a7a8u, 0x0102030405060708u};
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();
inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Raw {
  Bytes header, payload;
};

inline Raw to_raw(const Frames& frames) {
  const View payload = frames.payload.bytes();
  return {Bytes(frames.header.begin(), frames.header.end()), Bytes(payload.begin(), payload.end())};
}

inline Result<Message> decode_raw(const Raw& raw) {
  const View frames[] = {raw.header, raw.payload};
  return decode(frames);
}

template <class T>
void put(Bytes& bytes, std::size_t offset, T value) {
  REQUIRE(offset + sizeof value <= bytes.size());
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

// Makes size and checksum right again after a field was changed, as an attacker would.
inline Raw resealed(Raw raw) {
  put(raw.header, 56, std::uint64_t{raw.payload.size()});
  put(raw.header, 64, payload_checksum(raw.payload));
  if (raw.header.size() == kHeaderBytes) {
    seal_header(std::span(raw.header).first<kHeaderBytes>());
  }
  return raw;
}

inline std::vector<float> random_activation(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 1.5f);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

inline Frames activation_frames(Dtype dtype, std::uint32_t layer, std::uint32_t rows,
                                std::uint32_t cols, std::span<const float> values) {
  auto frames = encode_activation(kEnvelope, Infer{layer, rows, cols, dtype, 250'000, {}}, values);
  REQUIRE_MESSAGE(frames.ok(), frames.status().message());
  return std::move(*frames);
}

inline Reply sample_reply() {
  Reply reply;
  reply.class_index = 1;
  reply.confidence = 0.625f;
  reply.probabilities = {0.25f, 0.625f, 0.125f};
  reply.server_us = 1234;
  return reply;
}

inline Frames infer_sample(Dtype dtype) {
  if (dtype == Dtype::kInput) {
    const std::vector<std::uint32_t> words = {101, 7, 30000, 102, 0x01010000};
    return std::move(*encode_input(kEnvelope, 250'000, 1, 4, std::as_bytes(std::span(words))));
  }
  const std::vector<float> values = random_activation(3 * 5, 1);
  return activation_frames(dtype, 4, 3, 5, values);
}

// One valid message of every type and dtype.
inline std::vector<std::pair<std::string, Raw>> samples() {
  std::vector<std::pair<std::string, Raw>> all;
  all.emplace_back("hello", to_raw(encode(kEnvelope, Hello{})));
  all.emplace_back("welcome",
                   to_raw(encode(kEnvelope, Welcome{kAllCapabilities, 512, 12, 3, 2, 4})));
  all.emplace_back("infer f32", to_raw(infer_sample(Dtype::kF32)));
  all.emplace_back("infer f16", to_raw(infer_sample(Dtype::kF16)));
  all.emplace_back("infer i8", to_raw(infer_sample(Dtype::kI8)));
  all.emplace_back("infer input", to_raw(infer_sample(Dtype::kInput)));
  all.emplace_back("reply", to_raw(encode(kEnvelope, sample_reply())));
  all.emplace_back("refuse", to_raw(encode(kEnvelope, Refusal{RefuseCode::kBusy, "full"})));
  all.emplace_back("ping", to_raw(encode({1, 0, 2}, Ping{})));
  all.emplace_back("pong", to_raw(encode({1, 0, 2}, Pong{})));
  return all;
}

inline Raw sample(const std::string& name) {
  for (auto& [key, raw] : samples()) {
    if (key == name) return raw;
  }
  FAIL(name);
  return {};
}

}  // namespace splitee::transport::wire_samples
