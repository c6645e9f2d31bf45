#include "transport/wire.h"

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "runtime/hash.h"

namespace splitee::transport {
namespace {

using Bytes = std::vector<std::byte>;
using View = std::span<const std::byte>;

constexpr Envelope kEnvelope{0x1122334455667788u, 0xa1a2a3a4a5a6a7a8u, 0x0102030405060708u};
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Raw {
  Bytes header, payload;
};

Raw to_raw(const Frames& frames) {
  const View payload = frames.payload.bytes();
  return {Bytes(frames.header.begin(), frames.header.end()), Bytes(payload.begin(), payload.end())};
}

runtime::Result<Message> decode_raw(const Raw& raw) {
  const View frames[] = {raw.header, raw.payload};
  return decode(frames);
}

template <class T>
void put(Bytes& bytes, std::size_t offset, T value) {
  REQUIRE(offset + sizeof value <= bytes.size());
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

// Makes size and checksum right again after a field was changed, as an attacker would.
Raw resealed(Raw raw) {
  put(raw.header, 56, std::uint64_t{raw.payload.size()});
  Bytes hashed(raw.header.begin(), raw.header.begin() + 64);
  hashed.resize(72);
  put(hashed, 64, runtime::content_hash(raw.payload));
  put(raw.header, 64, runtime::content_hash(hashed));
  return raw;
}

std::vector<float> random_activation(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, 1.5f);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

Frames activation_frames(Dtype dtype, std::uint32_t layer, std::uint32_t tokens,
                         std::uint32_t hidden, std::span<const float> values) {
  auto frames =
      encode_activation(kEnvelope, Infer{layer, tokens, hidden, dtype, 250'000, {}}, values);
  REQUIRE_MESSAGE(frames.ok(), frames.status().message());
  return std::move(*frames);
}

Reply sample_reply() {
  Reply reply;
  reply.class_index = 1;
  reply.confidence = 0.625f;
  reply.probabilities = {0.25f, 0.625f, 0.125f};
  reply.server_us = 1234;
  return reply;
}

Frames infer_sample(Dtype dtype) {
  if (dtype == Dtype::kTokens) {
    const std::vector<std::int32_t> ids = {101, 7, 30000, 102}, types = {0, 0, 1, 1};
    return std::move(*encode_tokens(kEnvelope, 250'000, ids, types));
  }
  const std::vector<float> values = random_activation(3 * 5, 1);
  return activation_frames(dtype, 4, 3, 5, values);
}

// One valid message of every type and dtype.
std::vector<std::pair<std::string, Raw>> samples() {
  std::vector<std::pair<std::string, Raw>> all;
  all.emplace_back("hello", to_raw(encode(kEnvelope, Hello{})));
  all.emplace_back("welcome",
                   to_raw(encode(kEnvelope, Welcome{kAllCapabilities, 512, 12, 192, 2, 4})));
  all.emplace_back("infer f32", to_raw(infer_sample(Dtype::kF32)));
  all.emplace_back("infer f16", to_raw(infer_sample(Dtype::kF16)));
  all.emplace_back("infer i8", to_raw(infer_sample(Dtype::kI8)));
  all.emplace_back("infer tokens", to_raw(infer_sample(Dtype::kTokens)));
  all.emplace_back("reply", to_raw(encode(kEnvelope, sample_reply())));
  all.emplace_back("refuse", to_raw(encode(kEnvelope, Refusal{RefuseCode::kBusy, "full"})));
  all.emplace_back("ping", to_raw(encode({1, 0, 2}, Ping{})));
  all.emplace_back("pong", to_raw(encode({1, 0, 2}, Pong{})));
  return all;
}

Raw sample(const std::string& name) {
  for (auto& [key, raw] : samples()) {
    if (key == name) return raw;
  }
  FAIL(name);
  return {};
}

}  // namespace

TEST_CASE("small messages come back as they were sent") {
  SUBCASE("hello") {
    const Hello sent{1, 3, capability(Dtype::kF32) | capability(Dtype::kI8), 7};
    const auto message = decode_raw(to_raw(encode(kEnvelope, sent)));
    REQUIRE(message.ok());
    const auto& got = std::get<Hello>(message->body);
    CHECK(got.lowest_version == 1);
    CHECK(got.highest_version == 3);
    CHECK(got.capabilities == (2u | 8u));
    CHECK(got.window == 7);
    CHECK(message->envelope.request_id == kEnvelope.request_id);
    CHECK(message->envelope.model_hash == kEnvelope.model_hash);
    CHECK(message->envelope.clock_us == kEnvelope.clock_us);
  }
  SUBCASE("welcome") {
    const auto message = decode_raw(sample("welcome"));
    REQUIRE(message.ok());
    const auto& got = std::get<Welcome>(message->body);
    CHECK(got.capabilities == kAllCapabilities);
    CHECK(got.max_tokens == 512);
    CHECK(got.layers == 12);
    CHECK(got.hidden == 192);
    CHECK(got.classes == 2);
    CHECK(got.window == 4);
  }
  SUBCASE("reply") {
    const auto message = decode_raw(sample("reply"));
    REQUIRE(message.ok());
    const auto& got = std::get<Reply>(message->body);
    CHECK(got.request_id == kEnvelope.request_id);
    CHECK(got.class_index == 1);
    CHECK(got.confidence == 0.625f);
    CHECK(got.probabilities == std::vector<float>{0.25f, 0.625f, 0.125f});
    CHECK(got.server_us == 1234);
  }
  SUBCASE("refuse is cut to its length and cleaned") {
    const std::string text = "a\nb" + std::string(300, 'x');
    const auto message =
        decode_raw(to_raw(encode(kEnvelope, Refusal{RefuseCode::kWrongModel, text})));
    REQUIRE(message.ok());
    const auto& got = std::get<Refusal>(message->body);
    CHECK(got.code == RefuseCode::kWrongModel);
    CHECK(got.text == "a?b" + std::string(197, 'x'));
  }
  SUBCASE("ping and pong") {
    CHECK(std::holds_alternative<Ping>(decode_raw(sample("ping"))->body));
    CHECK(std::holds_alternative<Pong>(decode_raw(sample("pong"))->body));
  }
}

TEST_CASE("activations come back within the precision of their type") {
  for (const std::uint32_t tokens : {1u, 2u, 9u, 128u}) {
    for (const std::uint32_t hidden : {1u, 3u, 64u, 193u}) {
      CAPTURE(tokens);
      CAPTURE(hidden);
      const std::vector<float> sent = random_activation(std::size_t{tokens} * hidden, tokens);
      for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kI8}) {
        CAPTURE(std::string(to_string(dtype)));
        const Raw raw = to_raw(activation_frames(dtype, 3, tokens, hidden, sent));
        CHECK(raw.payload.size() == infer_payload_bytes(dtype, tokens, hidden));
        const auto message = decode_raw(raw);
        REQUIRE(message.ok());
        const auto& infer = std::get<Infer>(message->body);
        CHECK(infer.layer == 3);
        CHECK(infer.deadline_us == 250'000);
        std::vector<float> got(sent.size());
        REQUIRE(read_activation(infer, got).ok());
        float worst_excess = 0;
        for (std::size_t r = 0; r < tokens; ++r) {
          float row_largest = 0;
          for (std::size_t c = 0; c < hidden; ++c) {
            row_largest = std::max(row_largest, std::abs(sent[r * hidden + c]));
          }
          for (std::size_t c = 0; c < hidden; ++c) {
            const float value = sent[r * hidden + c];
            float allowed = 0;
            if (dtype == Dtype::kF16) allowed = std::max(std::abs(value) / 2048, 0x1p-25f);
            if (dtype == Dtype::kI8) allowed = row_largest / 127 * 0.5001f;
            worst_excess = std::max(worst_excess, std::abs(got[r * hidden + c] - value) - allowed);
          }
        }
        CHECK(worst_excess <= 0);
      }
    }
  }
}

TEST_CASE("f16 rounds to nearest even and saturates") {
  struct Case {
    float value, expected;
  };
  const std::vector<Case> cases = {
      {0.0f, 0.0f},
      {-0.0f, -0.0f},
      {1.0f, 1.0f},
      {-2.5f, -2.5f},
      {65504.0f, 65504.0f},
      {1e38f, 65504.0f},
      {-70000.0f, -65504.0f},
      {65519.0f, 65504.0f},
      {1.0f + 0x1p-11f, 1.0f},                     // a tie, to the even side below
      {1.0f + 3 * 0x1p-11f, 1.0f + 2 * 0x1p-10f},  // a tie, to the even side above
      {1.0f + 0x1.1p-11f, 1.0f + 0x1p-10f},        // just above a tie
      {0x1p-14f, 0x1p-14f},                        // smallest normal
      {0x1p-24f, 0x1p-24f},                        // smallest subnormal
      {0x1p-25f, 0.0f},                            // a tie at its half
      {0x1.8p-24f, 0x1p-23f},                      // a tie between subnormals
      {0x1p-14f - 0x1p-26f, 0x1p-14f},             // rounds up into the normal range
      {1e-30f, 0.0f},
      {-1e-30f, -0.0f},
  };
  std::vector<float> values;
  for (const Case& c : cases) values.push_back(c.value);
  const Raw raw = to_raw(
      activation_frames(Dtype::kF16, 1, 1, static_cast<std::uint32_t>(cases.size()), values));
  const auto message = decode_raw(raw);
  REQUIRE(message.ok());
  std::vector<float> got(cases.size());
  REQUIRE(read_activation(std::get<Infer>(message->body), got).ok());
  for (std::size_t i = 0; i < cases.size(); ++i) {
    CAPTURE(cases[i].value);
    CHECK(got[i] == cases[i].expected);
    CHECK(std::signbit(got[i]) == std::signbit(cases[i].expected));
  }
}

TEST_CASE("every finite f16 survives a round trip") {
  // Decoded from its bits, encoded again: the same bits, for all 63488 finite values.
  std::vector<std::uint16_t> halves;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    if ((bits & 0x7c00) != 0x7c00) halves.push_back(static_cast<std::uint16_t>(bits));
  }
  const std::uint32_t rows = 62, columns = 1024;
  REQUIRE(halves.size() == rows * columns);
  Infer infer{1, rows, columns, Dtype::kF16, 1, std::as_bytes(std::span(halves))};
  std::vector<float> values(halves.size());
  REQUIRE(read_activation(infer, values).ok());
  CHECK(values[1] == 0x1p-24f);
  Bytes again(halves.size() * 2);
  write_activation(infer, values, again);
  CHECK(std::memcmp(again.data(), halves.data(), again.size()) == 0);
}

TEST_CASE("int8 rows keep zero rows and tiny rows finite") {
  const std::vector<float> sent = {0, 0, 0, 1e-44f, -1e-44f, 0, 254, -127, 1};
  const Raw raw = to_raw(activation_frames(Dtype::kI8, 1, 3, 3, sent));
  const auto message = decode_raw(raw);
  REQUIRE(message.ok());
  std::vector<float> got(9);
  REQUIRE(read_activation(std::get<Infer>(message->body), got).ok());
  const std::vector<float> expected = {0, 0, 0, 0, 0, 0, 254, -128, 2};
  // 254 / 127 = 2 a step; -127 is a tie between steps and rounds away from zero.
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    CHECK(got[i] == expected[i]);
  }
}

TEST_CASE("token ids and types come back, from unaligned frames too") {
  const std::vector<std::int32_t> ids = {101, 0, 2147483647}, types = {0, 1, 255};
  auto frames = encode_tokens(kEnvelope, 1, ids, types);
  REQUIRE(frames.ok());
  const Raw raw = to_raw(*frames);
  for (std::size_t shift = 0; shift < 8; ++shift) {
    Bytes header(shift), payload(shift);
    header.insert(header.end(), raw.header.begin(), raw.header.end());
    payload.insert(payload.end(), raw.payload.begin(), raw.payload.end());
    const View views[] = {View(header).subspan(shift), View(payload).subspan(shift)};
    const auto message = decode(views);
    REQUIRE(message.ok());
    std::vector<std::int32_t> got_ids(3), got_types(3);
    REQUIRE(read_tokens(std::get<Infer>(message->body), got_ids, got_types).ok());
    CHECK(got_ids == ids);
    CHECK(got_types == types);
  }
}

TEST_CASE("an activation is viewed in place only where it is aligned") {
  const std::vector<float> sent = random_activation(15, 3);
  const Raw raw = to_raw(activation_frames(Dtype::kF32, 4, 3, 5, sent));
  alignas(8) std::array<std::byte, 80> room;
  for (std::size_t shift = 0; shift < 8; ++shift) {
    std::copy(raw.payload.begin(), raw.payload.end(), room.begin() + shift);
    const View views[] = {raw.header, View(room).subspan(shift, 60)};
    const auto message = decode(views);
    REQUIRE(message.ok());
    const auto view = view_activation(std::get<Infer>(message->body));
    CHECK(view.has_value() == (shift % 4 == 0));
    if (view) CHECK(std::vector<float>(view->begin(), view->end()) == sent);
    std::vector<float> copy(15);
    REQUIRE(read_activation(std::get<Infer>(message->body), copy).ok());
    CHECK(copy == sent);
  }
}

TEST_CASE("what cannot be sent is refused before it is") {
  const std::vector<float> three(3);
  const Infer good{1, 1, 3, Dtype::kF32, 1000, {}};
  CHECK(encode_activation(kEnvelope, good, three).ok());
  const auto refused = [&](Infer infer, std::span<const float> values) {
    return !encode_activation(kEnvelope, infer, values).ok();
  };
  CHECK(refused({0, 1, 3, Dtype::kF32, 1000, {}}, three));
  CHECK(refused({5000, 1, 3, Dtype::kF32, 1000, {}}, three));
  CHECK(refused({1, 1, 4, Dtype::kF32, 1000, {}}, three));
  CHECK(refused({1, 0, 3, Dtype::kF32, 1000, {}}, {}));
  CHECK(refused({1, 1, 0, Dtype::kF32, 1000, {}}, {}));
  CHECK(refused({1, 70000, 1, Dtype::kF32, 1000, {}}, std::vector<float>(70000)));
  CHECK(refused({1, 1, 3, Dtype::kTokens, 1000, {}}, three));
  CHECK(refused({1, 1, 3, Dtype::kNone, 1000, {}}, three));
  CHECK(refused({1, 1, 3, Dtype::kF32, 0, {}}, three));
  CHECK(refused({1, 1, 3, Dtype::kF32, kMaxDeadlineUs + 1, {}}, three));
  for (const float bad : {kNaN, -kNaN, kInfinity, -kInfinity}) {
    for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kI8}) {
      CHECK(refused({1, 1, 3, dtype, 1000, {}}, std::vector<float>{0, bad, 1}));
    }
  }
  using Ids = std::vector<std::int32_t>;
  CHECK(encode_tokens(kEnvelope, 1, Ids{1}, Ids{0}).ok());
  CHECK_FALSE(encode_tokens(kEnvelope, 1, Ids{}, Ids{}).ok());
  CHECK_FALSE(encode_tokens(kEnvelope, 1, Ids{1, 2}, Ids{0}).ok());
  CHECK_FALSE(encode_tokens(kEnvelope, 1, Ids{-1}, Ids{0}).ok());
  CHECK_FALSE(encode_tokens(kEnvelope, 1, Ids{1}, Ids{256}).ok());
  CHECK_FALSE(encode_tokens(kEnvelope, 0, Ids{1}, Ids{0}).ok());
}

TEST_CASE("every truncation and extension is refused") {
  for (const auto& entry : samples()) {
    // clang 14 captures no structured bindings.
    const std::string& name = entry.first;
    const Raw& raw = entry.second;
    CAPTURE(name);
    REQUIRE(decode_raw(raw).ok());
    for (std::size_t length = 0; length < raw.header.size(); ++length) {
      Raw cut = raw;
      cut.header.resize(length);
      CHECK_FALSE(decode_raw(cut).ok());
    }
    for (std::size_t length = 0; length < raw.payload.size(); ++length) {
      Raw cut = raw;
      cut.payload.resize(length);
      CHECK_FALSE(decode_raw(cut).ok());
      // Also with a size and a checksum that fit the shorter payload; a refusal's text may be
      // shorter.
      if (name == "refuse" && length >= 4) continue;
      CHECK_FALSE(decode_raw(resealed(cut)).ok());
    }
    Raw longer = raw;
    longer.header.push_back(std::byte{0});
    CHECK_FALSE(decode_raw(longer).ok());
    longer = raw;
    longer.payload.push_back(std::byte{0});
    CHECK_FALSE(decode_raw(longer).ok());
    CHECK_FALSE(decode_raw(resealed(longer)).ok());
  }
}

TEST_CASE("every change of one byte is refused") {
  for (const auto& entry : samples()) {
    // clang 14 captures no structured bindings.
    const std::string& name = entry.first;
    const Raw& raw = entry.second;
    CAPTURE(name);
    for (std::size_t i = 0; i < raw.header.size() + raw.payload.size(); ++i) {
      for (int change = 1; change < 256; ++change) {
        Raw bad = raw;
        std::byte& byte =
            i < raw.header.size() ? bad.header[i] : bad.payload[i - raw.header.size()];
        byte ^= static_cast<std::byte>(change);
        if (decode_raw(bad).ok()) FAIL("byte " << i << " change " << change);
      }
    }
  }
}

TEST_CASE("messages that break one rule are refused, with a checksum that fits") {
  struct Case {
    std::string id, base;
    std::function<void(Raw&)> change;
    std::string why;  // part of the message
  };
  const auto header = [](std::size_t offset, auto value) {
    return [=](Raw& raw) { put(raw.header, offset, value); };
  };
  const auto payload = [](std::size_t offset, auto value) {
    return [=](Raw& raw) { put(raw.payload, offset, value); };
  };
  const auto u8 = [](int v) { return static_cast<std::uint8_t>(v); };
  const std::uint64_t huge = std::uint64_t{1} << 63;
  const std::vector<Case> cases = {
      {"W05", "hello", header(0, u8('X')), "magic"},
      {"W05", "hello", header(4, std::uint16_t{0}), "version"},
      {"W05", "hello", header(4, std::uint16_t{2}), "version"},
      {"W05", "hello", header(4, std::uint16_t{0x0100}), "version"},
      {"W06", "hello", header(6, u8(0)), "type"},
      {"W06", "hello", header(6, u8(8)), "type"},
      {"W06", "hello", header(6, u8(255)), "type"},
      {"W07", "infer f32", header(36, std::uint32_t{1}), "reserved"},
      {"W07", "infer f32", header(36, std::uint32_t{1} << 31), "reserved"},
      {"W07", "hello", payload(12, std::uint32_t{1}), "reserved"},
      {"W07", "hello", payload(4, std::uint32_t{1}), "capability"},
      {"W07", "hello", payload(4, std::uint32_t{32}), "capability"},
      {"W07", "welcome", payload(24, std::uint64_t{1}), "reserved"},
      {"W11", "infer f32", header(7, u8(0)), "dtype"},
      {"W11", "infer f32", header(7, u8(5)), "dtype"},
      {"W11", "infer f32", header(7, u8(255)), "dtype"},
      {"W11", "hello", header(7, u8(1)), "dtype"},
      {"W11", "reply", header(7, u8(2)), "dtype"},
      {"W12", "infer f32", header(28, std::uint32_t{0}), "shape"},
      {"W12", "infer f32", header(28, ~std::uint32_t{0}), "shape"},
      {"W12", "infer f32", header(28, std::uint32_t{4}), "payload of 60"},
      {"W12", "infer f32", header(32, std::uint32_t{0}), "shape"},
      {"W12", "infer f32", header(32, ~std::uint32_t{0}), "shape"},
      {"W12", "infer f32", header(32, std::uint32_t{6}), "payload of 60"},
      {"W12", "infer f32",
       [](Raw& raw) {  // 2^16 * 2^16 * 4 bytes wrap to 0 in 32 bits
         put(raw.header, 28, std::uint32_t{1} << 16);
         put(raw.header, 32, std::uint32_t{1} << 16);
       },
       "shape"},
      {"W12", "infer f16", header(32, std::uint32_t{10}), "payload of 30"},
      {"W12", "infer i8", header(28, std::uint32_t{2}), "payload of 27"},
      {"W12", "infer tokens", header(32, std::uint32_t{1}), "shape"},
      {"W12", "hello", header(28, std::uint32_t{1}), "shape"},
      {"W12", "reply", header(32, std::uint32_t{0}), "classes"},
      {"W12", "reply", header(32, std::uint32_t{4}), "size"},
      {"W12", "reply", header(32, ~std::uint32_t{0}), "classes"},
      {"W13", "infer f32", header(24, std::uint32_t{0}), "layer"},
      {"W13", "infer f32", header(24, ~std::uint32_t{0}), "layer"},
      {"W13", "infer f32", header(24, kMaxLayers + 1), "layer"},
      {"W13", "infer tokens", header(24, std::uint32_t{1}), "layer"},
      {"W13", "reply", header(24, std::uint32_t{1}), "layer"},
      {"W25", "infer f32", header(40, std::uint64_t{0}), "deadline"},
      {"W25", "infer f32", header(40, kMaxDeadlineUs + 1), "deadline"},
      {"W25", "infer f32", header(40, huge), "deadline"},
      {"W25", "hello", header(40, std::uint64_t{1}), "time"},
      {"W26", "reply", payload(4, 1.5f), "confidence"},
      {"W26", "reply", payload(4, -0.625f), "confidence"},
      {"W26", "reply", payload(4, 0.624f), "confidence"},
      {"W26", "reply", payload(4, kNaN), "confidence"},
      {"W26", "reply", payload(8, kNaN), "probability"},
      {"W26", "reply", payload(8, kInfinity), "probability"},
      {"W26", "reply", payload(8, -0.25f), "probability"},
      {"W26", "reply", payload(12, 1.0f), "sum"},
      {"W26", "reply", payload(16, 0.0f), "sum"},
      {"W27", "reply", payload(0, std::uint32_t{3}), "class"},
      {"W27", "reply", payload(0, ~std::uint32_t{0}), "class"},
      {"W27", "reply", payload(0, std::uint32_t{0}), "confidence"},
      {"", "reply", header(40, std::uint64_t{1} << 32), "server time"},
      {"", "hello", header(8, std::uint64_t{0}), "request id"},
      {"", "hello", payload(2, std::uint16_t{0}), "version range"},
      {"", "hello", payload(8, std::uint32_t{0}), "window"},
      {"", "welcome", payload(4, std::uint32_t{0}), "limits"},
      {"", "welcome", payload(16, kMaxClasses + 1), "limits"},
      {"", "refuse", payload(0, std::uint32_t{0}), "code"},
      {"", "refuse", payload(0, std::uint32_t{9}), "code"},
      {"", "refuse", payload(4, u8(0)), "text"},
      {"", "refuse", payload(4, u8(0x1b)), "text"},
      {"", "refuse", [](Raw& raw) { raw.payload.resize(4 + 201, std::byte{'x'}); }, "size"},
      {"", "ping", header(16, std::uint64_t{1}), "model hash"},
      {"W10", "ping", [](Raw& raw) { raw.payload.push_back(std::byte{0}); }, "payload"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.id);
    CAPTURE(c.base);
    CAPTURE(c.why);
    Raw raw = sample(c.base);
    c.change(raw);
    const auto message = decode_raw(resealed(raw));
    REQUIRE_FALSE(message.ok());
    CAPTURE(message.status().message());
    CHECK(message.status().message().find(c.why) != std::string::npos);
    const bool is_version = c.why == "version";
    CHECK((message.status().code() == runtime::Code::kUnsupported) == is_version);
  }
}

TEST_CASE("frames of the wrong number or size are refused") {
  const Raw good = sample("infer f32");
  const View header(good.header), payload(good.payload), empty;
  const auto refused = [](std::vector<View> frames) { return !decode(frames).ok(); };
  CHECK_FALSE(refused({header, payload}));
  CHECK(refused({}));                        // W01
  CHECK(refused({empty}));                   // W02
  CHECK(refused({header}));                  // W10
  CHECK(refused({header, payload, empty}));  // W10
  CHECK(refused({empty, header, payload}));  // W10: a REQ socket's envelope
  CHECK(refused({payload, header}));
  CHECK(refused({header, empty}));
  for (const std::uint64_t size :
       {std::uint64_t{59}, std::uint64_t{61}, std::uint64_t{0}, std::uint64_t{1} << 31,
        std::uint64_t{1} << 63, ~std::uint64_t{0}}) {  // W08
    CAPTURE(size);
    Raw raw = good;
    put(raw.header, 56, size);
    CHECK_FALSE(decode_raw(raw).ok());
  }
  Raw wrong_sum = good;  // W29
  put(wrong_sum.header, 64, std::uint64_t{0});
  CHECK_FALSE(decode_raw(wrong_sum).ok());
}

TEST_CASE("values that are not finite or not in range are refused when they are read (W16)") {
  std::vector<float> out(15);
  const auto read = [&](Raw raw) {
    raw = resealed(std::move(raw));
    const auto message = decode_raw(raw);
    REQUIRE(message.ok());
    return read_activation(std::get<Infer>(message->body), out);
  };
  for (const float bad : {kNaN, kInfinity, -kInfinity}) {
    Raw raw = sample("infer f32");
    put(raw.payload, 56, bad);
    CHECK_FALSE(read(raw).ok());
  }
  for (const float good : {1e38f, -3.4e38f, 1e-42f}) {
    Raw raw = sample("infer f32");
    put(raw.payload, 56, good);
    CHECK(read(raw).ok());
    CHECK(out[14] == good);
  }
  for (const int bad : {0x7c00, 0xfc00, 0x7e00, 0x7c01, 0xffff}) {
    Raw raw = sample("infer f16");
    put(raw.payload, 28, static_cast<std::uint16_t>(bad));
    CHECK_FALSE(read(raw).ok());
  }
  for (const float bad : {kNaN, kInfinity, -1.0f, 1e37f}) {
    Raw raw = sample("infer i8");
    put(raw.payload, 8, bad);
    CHECK_FALSE(read(raw).ok());
  }
  Raw raw = sample("infer i8");
  put(raw.payload, 12, std::int8_t{-128});
  CHECK_FALSE(read(raw).ok());
  Raw tokens = sample("infer tokens");
  put(tokens.payload, 4, std::uint32_t{1} << 31);
  const Raw sealed = resealed(tokens);
  const auto message = decode_raw(sealed);
  REQUIRE(message.ok());
  std::vector<std::int32_t> ids(4), types(4);
  CHECK_FALSE(read_tokens(std::get<Infer>(message->body), ids, types).ok());
}

TEST_CASE("the request id of a refused message is found where it can be") {
  const Raw raw = sample("hello");
  const View header(raw.header);
  CHECK(readable_request_id(header) == kEnvelope.request_id);
  CHECK(readable_request_id(header.first(16)) == kEnvelope.request_id);
  CHECK(readable_request_id(header.first(15)) == 0);
  CHECK(readable_request_id(header.subspan(1)) == 0);
  CHECK(readable_request_id({}) == 0);
}

TEST_CASE("bytes at random never decode") {
  std::mt19937_64 random(20240229);
  for (int i = 0; i < 20'000; ++i) {
    Raw raw{Bytes(random() % 2 ? 72 : random() % 100), Bytes(random() % 64)};
    for (std::byte& b : raw.header) b = static_cast<std::byte>(random());
    for (std::byte& b : raw.payload) b = static_cast<std::byte>(random());
    CHECK_FALSE(decode_raw(raw).ok());
    if (raw.header.size() < 72) continue;
    // Let it reach the rules behind magic, version and checksum.
    std::memcpy(raw.header.data(), "SPLE\1\0", 6);
    raw.header[6] &= std::byte{7};
    CHECK_FALSE(decode_raw(resealed(raw)).ok());
  }
}

}  // namespace splitee::transport
