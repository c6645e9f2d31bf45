#include "transport/wire/wire.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/transport/wire_samples.h"

namespace splitee::transport {

using namespace wire_samples;

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
    CHECK(got.max_length == 512);
    CHECK(got.layers == 12);
    CHECK(got.input_kind == 3);
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
        CHECK(raw.payload.size() == activation_bytes(dtype, tokens, hidden));
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
  infer.checksum = payload_checksum(infer.payload);
  std::vector<float> values(halves.size());
  REQUIRE(read_activation(infer, values).ok());
  CHECK(values[1] == 0x1p-24f);
  Bytes again(halves.size() * 2);
  CHECK(write_activation(infer, values, again));
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

TEST_CASE("an input comes back with its kind and length, from unaligned frames too") {
  const std::vector<std::uint8_t> bytes = {1, 2, 3, 0, 255, 128, 7};
  auto frames = encode_input(kEnvelope, 1, 2, 3, std::as_bytes(std::span(bytes)));
  REQUIRE(frames.ok());
  const Raw raw = to_raw(*frames);
  for (std::size_t shift = 0; shift < 8; ++shift) {
    Bytes header(shift + raw.header.size()), payload(shift + raw.payload.size());
    std::memcpy(header.data() + shift, raw.header.data(), raw.header.size());
    std::memcpy(payload.data() + shift, raw.payload.data(), raw.payload.size());
    const View views[] = {View(header).subspan(shift), View(payload).subspan(shift)};
    const auto message = decode(views);
    REQUIRE(message.ok());
    const auto& got = std::get<Infer>(message->body);
    CHECK(got.layer == 0);
    CHECK(got.rows == 3);
    CHECK(got.cols == 2);
    CHECK(check_input(got).ok());
    CHECK(std::ranges::equal(got.payload, std::as_bytes(std::span(bytes))));
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
  CHECK(refused({1, 1, 3, Dtype::kInput, 1000, {}}, three));
  CHECK(refused({1, 1, 3, Dtype::kNone, 1000, {}}, three));
  CHECK(refused({1, 1, 3, Dtype::kF32, 0, {}}, three));
  CHECK(refused({1, 1, 3, Dtype::kF32, kMaxDeadlineUs + 1, {}}, three));
  for (const float bad : {kNaN, -kNaN, kInfinity, -kInfinity}) {
    for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kI8}) {
      CHECK(refused({1, 1, 3, dtype, 1000, {}}, std::vector<float>{0, bad, 1}));
    }
  }
  const Bytes some(5), none;
  CHECK(encode_input(kEnvelope, 1, 1, 1, some).ok());
  CHECK_FALSE(encode_input(kEnvelope, 1, 1, 1, none).ok());
  CHECK_FALSE(encode_input(kEnvelope, 1, 1, 0, some).ok());
  CHECK_FALSE(encode_input(kEnvelope, 1, 1, kMaxRows + 1, some).ok());
  CHECK_FALSE(encode_input(kEnvelope, 1, 0, 1, some).ok());
  CHECK_FALSE(encode_input(kEnvelope, 1, 256, 1, some).ok());
  CHECK_FALSE(encode_input(kEnvelope, 0, 1, 1, some).ok());
}

}  // namespace splitee::transport
