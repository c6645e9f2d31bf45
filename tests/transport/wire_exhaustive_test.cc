// The decoder on all inputs of a kind, not on samples of them: what it takes is what the rules of
// wire.h allow, worked out here a second time in wider numbers, and nothing else.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <string>
#include <type_traits>

#include <doctest/doctest.h>

#include "tests/transport/wire_samples.h"

namespace splitee::transport {
namespace {

using namespace wire_samples;

// A number of a byte beside the frame's own bytes.
template <class T>
T get(const Bytes& bytes, std::size_t offset) {
  T value{};
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

bool same(const Raw& raw, const Frames& frames) {
  const Raw other = to_raw(frames);
  return other.header == raw.header && other.payload == raw.payload;
}

// Whether a message says what its bytes say: written again it gives them, or, of a tensor, its
// fields are those of the header.
bool says_its_bytes(const Message& message, const Raw& raw) {
  const auto write = [&](const auto& body) {
    using Kind = std::decay_t<decltype(body)>;
    if constexpr (!std::is_same_v<Kind, Infer>) {
      return same(raw, encode(message.envelope, body));
    } else {
      return body.layer == get<std::uint32_t>(raw.header, 24) &&
             body.rows == get<std::uint32_t>(raw.header, 28) &&
             body.cols == get<std::uint32_t>(raw.header, 32) &&
             static_cast<std::byte>(body.dtype) == raw.header[7] &&
             body.deadline_us == get<std::uint64_t>(raw.header, 40) &&
             body.checksum == get<std::uint64_t>(raw.header, 64) &&
             std::ranges::equal(body.payload, raw.payload);
    }
  };
  const Envelope& envelope = message.envelope;
  return envelope.request_id == get<std::uint64_t>(raw.header, 8) &&
         envelope.model_hash == get<std::uint64_t>(raw.header, 16) &&
         envelope.clock_us == get<std::uint64_t>(raw.header, 48) && std::visit(write, message.body);
}

// Refused, or taken for what it is. True where it was taken.
bool taken(const Raw& raw) {
  const auto message = decode_raw(raw);
  if (message.ok() && !says_its_bytes(*message, raw)) FAIL("another message than its bytes");
  return message.ok();
}

// Values at which something may change: small ones, and those around each power of two.
template <class T>
std::vector<T> borders() {
  std::vector<T> values = {0, 1, 2, 3, 4, 5};
  for (unsigned bit = 3; bit < 8 * sizeof(T); ++bit) {
    const T power = T{1} << bit;
    values.insert(values.end(), {static_cast<T>(power - 1), power, static_cast<T>(power + 1)});
  }
  values.push_back(std::numeric_limits<T>::max());
  return values;
}

}  // namespace

TEST_CASE("exhaustive: no frame of up to two bytes is a header (three: SPLITEE_FULL)") {
  const std::size_t most = std::getenv("SPLITEE_FULL") != nullptr ? 3 : 2;
  std::size_t count = 0;
  for (std::size_t length = 0; length <= most; ++length) {
    for (std::uint32_t number = 0; number < 1u << (8 * length); ++number, ++count) {
      const auto bytes = std::as_bytes(std::span(&number, 1)).first(length);
      const Raw raw{Bytes(bytes.begin(), bytes.end()), {}};
      if (decode_raw(raw).ok()) FAIL(number);
    }
  }
  CHECK(count >= 65'793);
}

TEST_CASE("exhaustive: every value of every byte, under checks that fit") {
  std::size_t refused = 0, accepted = 0;
  for (const auto& [name, whole] : samples()) {
    CAPTURE(name);
    REQUIRE(taken(whole));
    for (std::size_t at = 0; at < whole.header.size() + whole.payload.size(); ++at) {
      Raw raw = whole;
      const bool in_header = at < raw.header.size();
      std::byte& byte = in_header ? raw.header[at] : raw.payload[at - raw.header.size()];
      const std::byte own = byte;
      for (unsigned value = 0; value < 256; ++value) {
        byte = static_cast<std::byte>(value);
        if (byte == own) continue;
        CAPTURE(at);
        CAPTURE(value);
        ++(taken(resealed(raw)) ? accepted : refused);
        // The checks of the frame as it came find any change at all.
        if (decode_raw(raw).ok()) FAIL("a change was not found");
      }
    }
  }
  CHECK(accepted > 20'000);
  CHECK(refused > 50'000);
}

TEST_CASE("exhaustive: every type with every dtype") {
  for (const auto& [name, whole] : samples()) {
    CAPTURE(name);
    std::size_t accepted = 0;
    for (unsigned both = 0; both < 1u << 16; ++both) {
      Raw raw = whole;
      put(raw.header, 6, static_cast<std::uint16_t>(both));
      accepted += taken(resealed(raw)) ? 1 : 0;
    }
    // Ping and pong are alike but for their type; so are no others.
    CHECK(accepted == (name == "ping" || name == "pong" ? 2 : 1));
  }
}

TEST_CASE("exhaustive: shapes at the borders of their fields, against wide numbers") {
  const auto values = borders<std::uint32_t>();
  const std::uint64_t sizes[] = {0, 4, 2, 1};
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kI8}) {
    const auto bytes_of = sizes[static_cast<std::size_t>(dtype)];
    for (const std::uint64_t rows : borders<std::uint64_t>()) {
      for (const std::uint64_t cols : borders<std::uint64_t>()) {
        std::uint64_t expected = 0;
        if (rows >= 1 && rows <= kMaxRows && cols >= 1 && cols <= kMaxCols) {
          // At most 2^16 * (2^16 * 4 + 4): no number here wraps.
          expected = rows * (cols * bytes_of + (dtype == Dtype::kI8 ? 4 : 0));
          if (expected > kMaxPayloadBytes) expected = 0;
        }
        if (activation_bytes(dtype, rows, cols) != expected) FAIL(rows, " x ", cols);
        if (rows > UINT32_MAX || cols > UINT32_MAX) continue;
        for (const std::uint64_t size : {expected, expected + 1, std::uint64_t{0}}) {
          if (size > 4'096) continue;
          Raw raw = sample("infer f32");
          raw.header[7] = static_cast<std::byte>(dtype);
          put(raw.header, 28, static_cast<std::uint32_t>(rows));
          put(raw.header, 32, static_cast<std::uint32_t>(cols));
          raw.payload.assign(size, std::byte{0});
          if (taken(resealed(raw)) != (expected != 0 && size == expected)) FAIL(rows, " x ", cols);
        }
      }
    }
  }
  for (const std::uint32_t layer : values) {
    for (const std::string name : {"infer f32", "infer input", "reply", "hello"}) {
      Raw raw = sample(name);
      put(raw.header, 24, layer);
      const bool good = name == "infer f32" ? layer >= 1 && layer <= kMaxLayers : layer == 0;
      if (taken(resealed(raw)) != good) FAIL(name, " of layer ", layer);
    }
  }
}

TEST_CASE("exhaustive: times and sizes at the borders of their fields") {
  for (const std::uint64_t value : borders<std::uint64_t>()) {
    for (const auto& [name, whole] : samples()) {
      CAPTURE(name);
      CAPTURE(value);
      Raw raw = whole;
      put(raw.header, 40, value);
      const bool infer = name.starts_with("infer"), reply = name == "reply";
      const bool good = infer   ? value >= 1 && value <= kMaxDeadlineUs
                        : reply ? value <= UINT32_MAX
                                : value == 0;
      CHECK(taken(resealed(raw)) == good);
      raw = whole;
      put(raw.header, 56, value);
      seal_header(std::span(raw.header).first<kHeaderBytes>());
      CHECK(taken(raw) == (value == whole.payload.size()));
    }
  }
}

TEST_CASE("exhaustive: replies of up to three classes at the borders of their numbers") {
  const float numbers[] = {0.0f,    -0.0f, 0.25f,     0.5f, 0.9985f,   0.75f, 1.0f,
                           1.0005f, 2.0f,  -0.00001f, kNaN, kInfinity, 1e-45f};
  const auto count = static_cast<std::uint32_t>(std::size(numbers));
  std::size_t accepted = 0;
  for (std::uint32_t classes = 1; classes <= 3; ++classes) {
    std::uint32_t combinations = 1;
    for (std::uint32_t i = 0; i < classes; ++i) combinations *= count;
    for (std::uint32_t combination = 0; combination < combinations; ++combination) {
      std::array<float, 3> values{};
      for (std::uint32_t i = 0, rest = combination; i < classes; ++i, rest /= count) {
        values[i] = numbers[rest % count];
      }
      double sum = 0;
      float most = 0;
      bool fit = true;
      for (std::uint32_t i = 0; i < classes; ++i) {
        fit = fit && values[i] >= 0 && values[i] <= 1;
        sum += static_cast<double>(values[i]);
        most = std::max(most, values[i]);
      }
      fit = fit && std::abs(sum - 1) <= 0.001;
      for (std::uint32_t answer = 0; answer <= classes; ++answer) {
        for (const float confidence : {most, 0.5f, 1.0f, kNaN}) {
          Raw raw = sample("reply");
          put(raw.header, 32, classes);
          raw.payload.assign(8 + 4 * classes, std::byte{0});
          put(raw.payload, 0, answer);
          put(raw.payload, 4, confidence);
          for (std::uint32_t i = 0; i < classes; ++i) put(raw.payload, 8 + 4 * i, values[i]);
          const bool good = fit && answer < classes && values[answer] == most && confidence == most;
          if (taken(resealed(raw)) != good) FAIL(classes, " classes, combination ", combination);
          accepted += good ? 1 : 0;
        }
      }
    }
  }
  CHECK(accepted > 20);
}

TEST_CASE("exhaustive: refusals of every code, and every text of up to two bytes") {
  const auto refusal = [](std::uint32_t code, std::size_t length, std::uint32_t text) {
    Raw raw = sample("refuse");
    raw.payload.assign(4 + length, std::byte{0});
    put(raw.payload, 0, code);
    std::memcpy(raw.payload.data() + 4, &text, length);
    return resealed(raw);
  };
  for (const std::uint32_t code : borders<std::uint32_t>()) {
    const bool known = code >= static_cast<std::uint32_t>(RefuseCode::kBusy) &&
                       code <= static_cast<std::uint32_t>(RefuseCode::kInternal);
    if (taken(refusal(code, 0, 0)) != known) FAIL(code);
  }
  const auto printable = [](std::uint32_t byte) { return byte >= 32 && byte <= 126; };
  for (std::uint32_t text = 0; text < 1u << 16; ++text) {
    if (taken(refusal(1, 2, text)) != (printable(text & 255) && printable(text >> 8))) FAIL(text);
    if (text < 256 && taken(refusal(1, 1, text)) != printable(text)) FAIL(text);
  }
}

}  // namespace splitee::transport
