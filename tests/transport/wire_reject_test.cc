// What the decoder refuses: the corpus of bad frames (W01 to W29), truncations and changes.
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/transport/wire_samples.h"
#include "transport/wire/wire.h"

namespace splitee::transport {

using namespace wire_samples;

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
      // shorter, and how many bytes an input has is its network's business.
      if (name == "refuse" && length >= 4) continue;
      if (name == "infer input" && length >= 1) continue;
      CHECK_FALSE(decode_raw(resealed(cut)).ok());
    }
    Raw longer = raw;
    longer.header.push_back(std::byte{0});
    CHECK_FALSE(decode_raw(longer).ok());
    longer = raw;
    longer.payload.push_back(std::byte{0});
    CHECK_FALSE(decode_raw(longer).ok());
    CHECK(decode_raw(resealed(longer)).ok() == (name == "infer input"));
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
      {"W05", "hello", header(4, std::uint16_t{1}), "version 1, this one 2"},
      {"W05", "hello", header(4, std::uint16_t{3}), "version"},
      {"W05", "hello", header(4, std::uint16_t{0x0100}), "version"},
      {"W06", "hello", header(6, u8(0)), "type"},
      {"W06", "hello", header(6, u8(8)), "type"},
      {"W06", "hello", header(6, u8(255)), "type"},
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
      {"W12", "infer input", header(28, std::uint32_t{0}), "length"},
      {"W12", "infer input", header(28, kMaxRows + 1), "length"},
      {"W12", "infer input", header(32, std::uint32_t{0}), "kind"},
      {"W12", "infer input", header(32, std::uint32_t{256}), "kind"},
      {"W12", "infer input", [](Raw& raw) { raw.payload.clear(); }, "no bytes"},
      {"W12", "hello", header(28, std::uint32_t{1}), "shape"},
      {"W12", "reply", header(32, std::uint32_t{0}), "classes"},
      {"W12", "reply", header(32, std::uint32_t{4}), "size"},
      {"W12", "reply", header(32, ~std::uint32_t{0}), "classes"},
      {"W13", "infer f32", header(24, std::uint32_t{0}), "layer"},
      {"W13", "infer f32", header(24, ~std::uint32_t{0}), "layer"},
      {"W13", "infer f32", header(24, kMaxLayers + 1), "layer"},
      {"W13", "infer input", header(24, std::uint32_t{1}), "layer"},
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
    const bool is_version = c.why.starts_with("version") && c.why != "version range";
    CHECK((message.status().code() == Code::kUnsupported) == is_version);
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
  // An input is checked only when it is looked at.
  Raw input = sample("infer input");
  input.payload[5] ^= std::byte{1};
  const View views[] = {input.header, input.payload};
  const auto message = decode_deferred(views);
  REQUIRE(message.ok());
  CHECK_FALSE(check_input(std::get<Infer>(message->body)).ok());
}

TEST_CASE("the request id of a refused message is found where it can be") {
  const Raw raw = sample("hello");
  const View header(raw.header);
  CHECK(readable_request_id(header) == kEnvelope.request_id);
  CHECK(readable_request_id(header.first(16)) == kEnvelope.request_id);
  CHECK(readable_request_id(header.first(15)) == 0);
  CHECK(readable_request_id(header.subspan(1)) == 0);
  CHECK(readable_request_id({}) == 0);
  CHECK(readable_version(header) == kProtocolVersion);
  CHECK(readable_version(header.first(15)) == 0);
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
    std::memcpy(raw.header.data(), "SPLE\2\0", 6);
    raw.header[6] &= std::byte{7};
    CHECK_FALSE(decode_raw(resealed(raw)).ok());
  }
}

}  // namespace splitee::transport
