// libFuzzer target for the decoder. The input is one message: a byte that says how many bytes the
// header frame has, the header, the payload. Half of the inputs get a fitting magic, version,
// size and checksum, so that the rules behind them are reached.
#include <algorithm>

#include "base/floats.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/reseal.h"
#include "transport/wire/wire.h"

namespace {

using splitee::fuzz::require;
using splitee::transport::Dtype;
using splitee::transport::Frames;
using splitee::transport::Infer;
using splitee::transport::Message;
using splitee::transport::Refusal;
using View = std::span<const std::byte>;

void require_same(const Frames& frames, View header, View payload) {
  require(std::ranges::equal(frames.header, header));
  require(std::ranges::equal(frames.payload.bytes(), payload));
}

// Values that were read can be sent on as any type; as the type that they came in they are the same
// message, but for i8, whose scales are made anew.
void send_on(const Message& message, std::span<const float> values, View header, View payload) {
  Infer infer = std::get<Infer>(message.body);
  const Dtype received_as = infer.dtype;
  require(splitee::transport::activation_dtype(to_string(received_as)) == received_as);
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kI8}) {
    infer.dtype = dtype;
    auto frames = encode_activation(message.envelope, infer, values);
    require(frames.ok());
    if (dtype == received_as && dtype != Dtype::kI8) require_same(*frames, header, payload);
    splitee::transport::restamp_infer(
        std::span(frames->header).first<splitee::transport::kHeaderBytes>(),
        message.envelope.request_id, infer.deadline_us, message.envelope.clock_us);
    const View again[] = {frames->header, frames->payload.bytes()};
    const auto decoded = splitee::transport::decode(again);
    require(decoded.ok());
    std::vector<float> read(values.size());
    require(read_activation(std::get<Infer>(decoded->body), read).ok());
  }
}

void check_infer(const Message& message, View header, View payload) {
  const auto& infer = std::get<Infer>(message.body);
  if (infer.dtype == Dtype::kInput) {
    require(check_input(infer).ok());
    const auto frames =
        encode_input(message.envelope, infer.deadline_us, infer.cols, infer.rows, infer.payload);
    require(frames.ok());
    require_same(*frames, header, payload);
    return;
  }
  std::vector<float> values(std::size_t{infer.rows} * infer.cols);
  const bool readable = read_activation(infer, values).ok();
  if (const auto view = view_activation(infer)) {
    require(view->size() == values.size());
    require(check_view(infer, *view).ok() == readable);
  }
  if (!readable) return;
  require(splitee::all_finite(values));
  send_on(message, values, header, payload);
}

// What was decoded, encoded again, is the same message.
void check_again(const Message& message, View header, View payload) {
  std::visit(
      [&](const auto& body) {
        if constexpr (std::is_same_v<std::decay_t<decltype(body)>, Infer>) {
          check_infer(message, header, payload);
        } else {
          require_same(encode(message.envelope, body), header, payload);
          if constexpr (std::is_same_v<std::decay_t<decltype(body)>, Refusal>) {
            require(to_string(body.code) != "unknown");
          }
        }
      },
      message.body);
}

// A message that was good, damaged on its way.
void check_damage(View header, View payload, std::size_t place) {
  const auto refused = [](std::initializer_list<View> frames) {
    require(!splitee::transport::decode({frames.begin(), frames.size()}).ok());
  };
  refused({header});
  refused({header, payload, payload});
  if (payload.empty()) return refused({header, header});
  refused({header, payload.first(payload.size() - 1)});
  std::vector<std::byte> changed(payload.begin(), payload.end());
  changed[place % changed.size()] ^= std::byte{1};
  refused({header, changed});
  const View frames[] = {header, changed};
  const auto deferred = splitee::transport::decode_deferred(frames);
  if (!deferred.ok()) return;
  const auto& infer = std::get<Infer>(deferred->body);
  if (infer.dtype == Dtype::kInput) return require(!check_input(infer).ok());
  std::vector<float> values(std::size_t{infer.rows} * infer.cols);
  require(!read_activation(infer, values).ok());
  if (const auto view = view_activation(infer)) require(!check_view(infer, *view).ok());
}

constexpr std::uint8_t kSealed = 0x80;

std::string as_input(const Frames& frames) {
  std::string input(1, static_cast<char>(kSealed | frames.header.size()));
  for (const View part : {View(frames.header), frames.payload.bytes()}) {
    input.append(reinterpret_cast<const char*>(part.data()), part.size());
  }
  return input;
}

}  // namespace

std::vector<std::string> splitee::fuzz::seeds() {
  using namespace splitee;
  using namespace splitee::transport;
  const Envelope from{7, 0x1234, 99};
  Reply reply;
  reply.class_index = 1;
  reply.confidence = 0.75f;
  reply.probabilities = {0.25f, 0.75f};
  std::vector<std::string> inputs = {
      "",
      "\x48",
      as_input(encode(from, Hello{})),
      as_input(encode(from, Welcome{kAllCapabilities, 128, 12, 1, 2, 4})),
      as_input(encode(from, reply)),
      as_input(encode({7, 0, 99}, Ping{})),
      as_input(encode({7, 0, 99}, Pong{}))};
  for (std::uint32_t code = 1; to_string(RefuseCode{code}) != "unknown"; ++code) {
    inputs.push_back(as_input(encode(from, Refusal{RefuseCode{code}, "queue full"})));
  }
  const std::vector<float> values = {0, 1, -2.5f, 1e-42f, 65504, 3};
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kI8}) {
    Infer infer{3, 2, 3, dtype, 1'000'000, {}};
    inputs.push_back(as_input(*encode_activation(from, infer, values)));
  }
  for (const std::uint32_t kind : {1u, 2u, 3u}) {
    inputs.push_back(as_input(*encode_input(from, 500, kind, 3, std::as_bytes(std::span(values)))));
  }
  return inputs;
}

void splitee::fuzz::repair(std::string&) {}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  splitee::fuzz::Taker input(data + 1, size - 1);
  std::string header(input.bytes(data[0] & 0x7f));
  const std::string payload(input.rest());
  if ((data[0] & kSealed) != 0) splitee::fuzz::reseal(header, payload);
  const View frames[] = {splitee::fuzz::bytes_of(header), splitee::fuzz::bytes_of(payload)};
  (void)splitee::transport::readable_request_id(frames[0]);
  const auto message = splitee::transport::decode(frames);
  const auto deferred = splitee::transport::decode_deferred(frames);
  require(deferred.ok() || !message.ok());
  if (!message.ok()) return 0;
  check_again(*message, frames[0], frames[1]);
  check_damage(frames[0], frames[1], data[size - 1]);
  return 0;
}
