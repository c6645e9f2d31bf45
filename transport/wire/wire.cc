#include "transport/wire/wire.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/hash.h"
#include "transport/wire/checksum.h"

namespace splitee::transport {
namespace {

using Bytes = std::span<const std::byte>;

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie");

constexpr std::array<char, 4> kMagic = {'S', 'P', 'L', 'E'};
constexpr std::size_t kHeaderCheckOffset = 36;
constexpr std::size_t kChecksumOffset = 64;
constexpr std::size_t kHelloBytes = 16;
constexpr std::size_t kWelcomeBytes = 32;
constexpr std::size_t kReplyFixedBytes = 8;
constexpr std::size_t kRefuseFixedBytes = 4;
constexpr std::uint32_t kMaxInputKind = 255;

// The header without its magic and its own check.
struct Fields {
  std::uint16_t version = kProtocolVersion;
  std::uint8_t type = 0;
  std::uint8_t dtype = 0;
  Envelope envelope;
  std::uint32_t layer = 0, rows = 0, cols = 0;
  std::uint64_t time_us = 0;
  std::uint64_t payload_bytes = 0;
  std::uint64_t checksum = 0;
};

template <class T>
T load(Bytes bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

template <class T>
void store(std::span<std::byte> bytes, std::size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

std::uint32_t header_check(Bytes header) {
  std::array<std::byte, kHeaderBytes> hashed;
  std::copy_n(header.begin(), kHeaderBytes, hashed.begin());
  store(hashed, kHeaderCheckOffset, std::uint32_t{0});
  return static_cast<std::uint32_t>(content_hash(hashed));
}

// `fields.checksum` is the payload's.
Frames seal_checked(MessageType type, const Envelope& envelope, Buffer payload, Fields fields) {
  Frames frames{{}, std::move(payload)};
  const std::span<std::byte> out = frames.header;
  std::memcpy(out.data(), kMagic.data(), kMagic.size());
  store(out, 4, fields.version);
  store(out, 6, static_cast<std::uint8_t>(type));
  store(out, 7, fields.dtype);
  store(out, 8, envelope.request_id);
  store(out, 16, envelope.model_hash);
  store(out, 24, fields.layer);
  store(out, 28, fields.rows);
  store(out, 32, fields.cols);
  store(out, 40, fields.time_us);
  store(out, 48, envelope.clock_us);
  store(out, 56, std::uint64_t{frames.payload.size()});
  store(out, kChecksumOffset, fields.checksum);
  seal_header(frames.header);
  return frames;
}

Frames seal(MessageType type, const Envelope& envelope, Buffer payload, Fields fields = {}) {
  fields.checksum = payload_checksum(payload.bytes());
  return seal_checked(type, envelope, std::move(payload), fields);
}

Status corrupt(std::string what) {
  return {Code::kCorrupt, std::move(what)};
}

Result<Fields> read_header(Bytes header) {
  if (header.size() != kHeaderBytes) {
    return corrupt("header of " + std::to_string(header.size()) + " bytes instead of " +
                   std::to_string(kHeaderBytes));
  }
  if (std::memcmp(header.data(), kMagic.data(), kMagic.size()) != 0) return corrupt("magic");
  // Before the check, which another version may compute otherwise.
  Fields fields;
  fields.version = load<std::uint16_t>(header, 4);
  if (fields.version != kProtocolVersion) {
    return Status{Code::kUnsupported, "the other side speaks protocol version " +
                                          std::to_string(fields.version) + ", this one " +
                                          std::to_string(kProtocolVersion)};
  }
  if (load<std::uint32_t>(header, kHeaderCheckOffset) != header_check(header)) {
    return corrupt("header check");
  }
  fields.type = load<std::uint8_t>(header, 6);
  fields.dtype = load<std::uint8_t>(header, 7);
  fields.envelope.request_id = load<std::uint64_t>(header, 8);
  fields.envelope.model_hash = load<std::uint64_t>(header, 16);
  fields.layer = load<std::uint32_t>(header, 24);
  fields.rows = load<std::uint32_t>(header, 28);
  fields.cols = load<std::uint32_t>(header, 32);
  fields.time_us = load<std::uint64_t>(header, 40);
  fields.envelope.clock_us = load<std::uint64_t>(header, 48);
  fields.payload_bytes = load<std::uint64_t>(header, 56);
  fields.checksum = load<std::uint64_t>(header, kChecksumOffset);
  if (fields.payload_bytes > kMaxPayloadBytes) return corrupt("payload size");
  return fields;
}

// Rules that hold for every type but infer and reply.
Status check_no_tensor(const Fields& fields) {
  if (fields.dtype != 0) return corrupt("dtype in a message without a tensor");
  if (fields.layer != 0 || fields.rows != 0 || fields.cols != 0) {
    return corrupt("shape in a message without a tensor");
  }
  if (fields.time_us != 0) return corrupt("time in a message without one");
  return {};
}

Status check_capabilities(std::uint32_t capabilities) {
  if ((capabilities & ~kAllCapabilities) != 0) return corrupt("reserved capability bits");
  return {};
}

Status read_hello(const Fields& fields, Bytes payload, Body& body) {
  if (Status status = check_no_tensor(fields); !status.ok()) return status;
  if (payload.size() != kHelloBytes) return corrupt("size of hello");
  Hello hello;
  hello.lowest_version = load<std::uint16_t>(payload, 0);
  hello.highest_version = load<std::uint16_t>(payload, 2);
  hello.capabilities = load<std::uint32_t>(payload, 4);
  hello.window = load<std::uint32_t>(payload, 8);
  if (hello.lowest_version > hello.highest_version) return corrupt("version range of hello");
  if (Status status = check_capabilities(hello.capabilities); !status.ok()) return status;
  if (hello.window == 0 || hello.window > kMaxWindow) return corrupt("window of hello");
  if (load<std::uint32_t>(payload, 12) != 0) return corrupt("reserved bits of hello");
  body = hello;
  return {};
}

bool within(std::uint32_t value, std::uint32_t most) {
  return value >= 1 && value <= most;
}

Status read_welcome(const Fields& fields, Bytes payload, Body& body) {
  if (Status status = check_no_tensor(fields); !status.ok()) return status;
  if (payload.size() != kWelcomeBytes) return corrupt("size of welcome");
  Welcome welcome;
  welcome.capabilities = load<std::uint32_t>(payload, 0);
  welcome.max_length = load<std::uint32_t>(payload, 4);
  welcome.layers = load<std::uint32_t>(payload, 8);
  welcome.input_kind = load<std::uint32_t>(payload, 12);
  welcome.classes = load<std::uint32_t>(payload, 16);
  welcome.window = load<std::uint32_t>(payload, 20);
  if (Status status = check_capabilities(welcome.capabilities); !status.ok()) return status;
  if (!within(welcome.max_length, kMaxRows) || !within(welcome.layers, kMaxLayers) ||
      !within(welcome.input_kind, kMaxInputKind) || !within(welcome.classes, kMaxClasses) ||
      !within(welcome.window, kMaxWindow)) {
    return corrupt("limits of welcome");
  }
  if (load<std::uint64_t>(payload, 24) != 0) return corrupt("reserved bits of welcome");
  body = welcome;
  return {};
}

Status read_infer(const Fields& fields, Bytes payload, Body& body) {
  const Infer infer{fields.layer,   fields.rows, fields.cols,    static_cast<Dtype>(fields.dtype),
                    fields.time_us, payload,     fields.checksum};
  if (fields.dtype < static_cast<std::uint8_t>(Dtype::kF32) ||
      fields.dtype > static_cast<std::uint8_t>(Dtype::kInput)) {
    return corrupt("dtype of infer");
  }
  if (infer.deadline_us == 0 || infer.deadline_us > kMaxDeadlineUs) return corrupt("deadline");
  const bool is_input = infer.dtype == Dtype::kInput;
  if (infer.layer > kMaxLayers || (infer.layer == 0) != is_input) return corrupt("layer of infer");
  body = infer;
  if (is_input) {
    if (!within(infer.rows, kMaxRows)) return corrupt("length of an input");
    if (!within(infer.cols, kMaxInputKind)) return corrupt("kind of an input");
    return payload.empty() ? corrupt("an input of no bytes") : Status();
  }
  const std::uint64_t expected = activation_bytes(infer.dtype, infer.rows, infer.cols);
  if (expected == 0) return corrupt("shape of infer");
  if (expected != payload.size()) {
    return corrupt("payload of " + std::to_string(payload.size()) + " bytes for a shape of " +
                   std::to_string(expected));
  }
  return {};
}

Status check_reply(const Reply& reply) {
  float largest = 0;
  double sum = 0;
  for (const float p : reply.probabilities) {
    if (!(p >= 0.0f && p <= 1.0f)) return corrupt("probability outside 0 to 1");
    largest = std::max(largest, p);
    sum += p;
  }
  if (std::abs(sum - 1.0) > 0.001) return corrupt("sum of the probabilities");
  if (reply.class_index >= reply.probabilities.size()) return corrupt("class of reply");
  // Written so that a NaN confidence fails too.
  if (!(reply.confidence == largest) || reply.probabilities[reply.class_index] != largest) {
    return corrupt("confidence is not the largest probability");
  }
  return {};
}

Status read_reply(const Fields& fields, Bytes payload, Body& body) {
  if (fields.dtype != static_cast<std::uint8_t>(Dtype::kF32)) return corrupt("dtype of reply");
  if (fields.layer != 0 || fields.rows != 0) return corrupt("layer or rows in a reply");
  if (!within(fields.cols, kMaxClasses)) return corrupt("classes of reply");
  if (fields.time_us > UINT32_MAX) return corrupt("server time");
  if (payload.size() != kReplyFixedBytes + sizeof(float) * fields.cols) {
    return corrupt("size of reply");
  }
  Reply reply;
  reply.request_id = fields.envelope.request_id;
  reply.class_index = load<std::uint32_t>(payload, 0);
  reply.confidence = load<float>(payload, 4);
  reply.probabilities.resize(fields.cols);
  std::memcpy(reply.probabilities.data(), payload.data() + kReplyFixedBytes,
              payload.size() - kReplyFixedBytes);
  reply.server_us = static_cast<std::uint32_t>(fields.time_us);
  if (Status status = check_reply(reply); !status.ok()) return status;
  body = std::move(reply);
  return {};
}

bool is_printable(char c) {
  return c >= ' ' && c <= '~';
}

Status read_refusal(const Fields& fields, Bytes payload, Body& body) {
  if (Status status = check_no_tensor(fields); !status.ok()) return status;
  if (payload.size() < kRefuseFixedBytes || payload.size() > kRefuseFixedBytes + kMaxTextBytes) {
    return corrupt("size of refuse");
  }
  const auto code = load<std::uint32_t>(payload, 0);
  if (code < static_cast<std::uint32_t>(RefuseCode::kBusy) ||
      code > static_cast<std::uint32_t>(RefuseCode::kInternal)) {
    return corrupt("code of refuse");
  }
  Refusal refusal{static_cast<RefuseCode>(code),
                  std::string(payload.size() - kRefuseFixedBytes, '\0')};
  std::memcpy(refusal.text.data(), payload.data() + kRefuseFixedBytes, refusal.text.size());
  if (!std::all_of(refusal.text.begin(), refusal.text.end(), is_printable)) {
    return corrupt("text of refuse");
  }
  body = std::move(refusal);
  return {};
}

template <class T>
Status read_empty(const Fields& fields, Bytes payload, Body& body) {
  if (Status status = check_no_tensor(fields); !status.ok()) return status;
  if (fields.envelope.model_hash != 0) return corrupt("model hash of a ping or pong");
  if (!payload.empty()) return corrupt("payload of a ping or pong");
  body = T{};
  return {};
}

Status read_body(const Fields& fields, Bytes payload, Body& body) {
  switch (static_cast<MessageType>(fields.type)) {
    case MessageType::kHello:
      return read_hello(fields, payload, body);
    case MessageType::kWelcome:
      return read_welcome(fields, payload, body);
    case MessageType::kInfer:
      return read_infer(fields, payload, body);
    case MessageType::kReply:
      return read_reply(fields, payload, body);
    case MessageType::kRefuse:
      return read_refusal(fields, payload, body);
    case MessageType::kPing:
      return read_empty<Ping>(fields, payload, body);
    case MessageType::kPong:
      return read_empty<Pong>(fields, payload, body);
  }
  return corrupt("message type " + std::to_string(fields.type));
}

Status check_encodable(std::uint64_t payload_bytes, std::uint64_t deadline_us) {
  if (payload_bytes == 0) return {Code::kInvalidArgument, "shape beyond the protocol's limits"};
  if (deadline_us == 0 || deadline_us > kMaxDeadlineUs) {
    return {Code::kInvalidArgument, "deadline beyond the protocol's limits"};
  }
  return {};
}

}  // namespace

bool is_retryable(RefuseCode code) {
  switch (code) {
    case RefuseCode::kBusy:
    case RefuseCode::kWrongModel:
    case RefuseCode::kShuttingDown:
    case RefuseCode::kUnsupportedVersion:
    case RefuseCode::kNoSession:
    case RefuseCode::kInternal:
      return true;
    case RefuseCode::kBadRequest:
    case RefuseCode::kExpired:
      return false;
  }
  return false;
}

std::string_view to_string(RefuseCode code) {
  switch (code) {
    case RefuseCode::kBusy:
      return "busy";
    case RefuseCode::kBadRequest:
      return "bad request";
    case RefuseCode::kWrongModel:
      return "wrong model";
    case RefuseCode::kExpired:
      return "expired";
    case RefuseCode::kShuttingDown:
      return "shutting down";
    case RefuseCode::kUnsupportedVersion:
      return "unsupported version";
    case RefuseCode::kNoSession:
      return "no session";
    case RefuseCode::kInternal:
      return "internal error";
  }
  return "unknown";
}

Frames encode(const Envelope& envelope, const Hello& hello) {
  Buffer payload(kHelloBytes);
  store(payload.bytes(), 0, hello.lowest_version);
  store(payload.bytes(), 2, hello.highest_version);
  store(payload.bytes(), 4, hello.capabilities);
  store(payload.bytes(), 8, hello.window);
  store(payload.bytes(), 12, std::uint32_t{0});
  return seal(MessageType::kHello, envelope, std::move(payload));
}

Frames encode(const Envelope& envelope, const Welcome& welcome) {
  Buffer payload(kWelcomeBytes);
  store(payload.bytes(), 0, welcome.capabilities);
  store(payload.bytes(), 4, welcome.max_length);
  store(payload.bytes(), 8, welcome.layers);
  store(payload.bytes(), 12, welcome.input_kind);
  store(payload.bytes(), 16, welcome.classes);
  store(payload.bytes(), 20, welcome.window);
  store(payload.bytes(), 24, std::uint64_t{0});
  return seal(MessageType::kWelcome, envelope, std::move(payload));
}

Frames encode(const Envelope& envelope, const Reply& reply) {
  const std::size_t classes = reply.probabilities.size();
  Buffer payload(kReplyFixedBytes + sizeof(float) * classes);
  store(payload.bytes(), 0, reply.class_index);
  store(payload.bytes(), 4, reply.confidence);
  std::memcpy(payload.bytes().data() + kReplyFixedBytes, reply.probabilities.data(),
              sizeof(float) * classes);
  Fields fields;
  fields.dtype = static_cast<std::uint8_t>(Dtype::kF32);
  fields.cols = static_cast<std::uint32_t>(classes);
  fields.time_us = reply.server_us;
  return seal(MessageType::kReply, envelope, std::move(payload), fields);
}

Frames encode(const Envelope& envelope, const Refusal& refusal) {
  const std::size_t length = std::min(refusal.text.size(), kMaxTextBytes);
  Buffer payload(kRefuseFixedBytes + length);
  store(payload.bytes(), 0, static_cast<std::uint32_t>(refusal.code));
  for (std::size_t i = 0; i < length; ++i) {
    const char c = refusal.text[i];
    store(payload.bytes(), kRefuseFixedBytes + i, is_printable(c) ? c : '?');
  }
  return seal(MessageType::kRefuse, envelope, std::move(payload));
}

Frames encode(const Envelope& envelope, Ping) {
  return seal(MessageType::kPing, envelope, Buffer());
}

Frames encode(const Envelope& envelope, Pong) {
  return seal(MessageType::kPong, envelope, Buffer());
}

Result<Frames> encode_activation(const Envelope& envelope, const Infer& infer,
                                 std::span<const float> activation) {
  const std::uint64_t size = activation_bytes(infer.dtype, infer.rows, infer.cols);
  if (Status status = check_encodable(size, infer.deadline_us); !status.ok()) return status;
  if (infer.layer == 0 || infer.layer > kMaxLayers ||
      activation.size() != std::uint64_t{infer.rows} * infer.cols) {
    return Status{Code::kInvalidArgument, "activation does not fit its layer, shape or dtype"};
  }
  Buffer payload(static_cast<std::size_t>(size));
  const std::optional<std::uint64_t> sum = write_activation(infer, activation, payload.bytes());
  if (!sum) return Status{Code::kInvalidArgument, "activation is not finite"};
  Fields fields;
  fields.checksum = *sum;
  fields.dtype = static_cast<std::uint8_t>(infer.dtype);
  fields.layer = infer.layer;
  fields.rows = infer.rows;
  fields.cols = infer.cols;
  fields.time_us = infer.deadline_us;
  return seal_checked(MessageType::kInfer, envelope, std::move(payload), fields);
}

Result<Frames> encode_input(const Envelope& envelope, std::uint64_t deadline_us, std::uint32_t kind,
                            std::size_t length, std::span<const std::byte> input) {
  const bool fits = length >= 1 && length <= kMaxRows && input.size() <= kMaxPayloadBytes &&
                    within(kind, kMaxInputKind);
  if (Status status = check_encodable(fits ? input.size() : 0, deadline_us); !status.ok()) {
    return status;
  }
  Buffer payload(input.size());
  std::memcpy(payload.bytes().data(), input.data(), input.size());
  Fields fields;
  fields.dtype = static_cast<std::uint8_t>(Dtype::kInput);
  fields.rows = static_cast<std::uint32_t>(length);
  fields.cols = kind;
  fields.time_us = deadline_us;
  return seal(MessageType::kInfer, envelope, std::move(payload), fields);
}

Frames encode_for_version_1(const Envelope& envelope, const Refusal& refusal) {
  Frames frames = encode(envelope, refusal);
  store(std::span<std::byte>(frames.header), 4, std::uint16_t{1});
  seal_header(frames.header);
  return frames;
}

Result<Message> decode_deferred(std::span<const Bytes> frames) {
  if (frames.size() != 2) {
    return corrupt(std::to_string(frames.size()) + " frames instead of 2");
  }
  const Bytes payload = frames[1];
  Result<Fields> fields = read_header(frames[0]);
  if (!fields.ok()) return fields.status();
  if (fields->payload_bytes != payload.size()) {
    return corrupt("payload of " + std::to_string(payload.size()) + " bytes instead of " +
                   std::to_string(fields->payload_bytes));
  }
  const bool is_infer = fields->type == static_cast<std::uint8_t>(MessageType::kInfer);
  if (!is_infer && payload_checksum(payload) != fields->checksum) return corrupt("checksum");
  const bool may_lack_id = fields->type == static_cast<std::uint8_t>(MessageType::kRefuse);
  if (fields->envelope.request_id == 0 && !may_lack_id) return corrupt("request id 0");
  Message message{fields->envelope, {}};
  if (Status status = read_body(*fields, payload, message.body); !status.ok()) return status;
  return message;
}

Result<Message> decode(std::span<const Bytes> frames) {
  Result<Message> message = decode_deferred(frames);
  if (!message.ok()) return message;
  const auto* infer = std::get_if<Infer>(&message->body);
  if (infer != nullptr && payload_checksum(infer->payload) != infer->checksum) {
    return corrupt("checksum");
  }
  return message;
}

void restamp_infer(std::span<std::byte, kHeaderBytes> header, std::uint64_t request_id,
                   std::uint64_t deadline_us, std::uint64_t clock_us) {
  store(std::span<std::byte>(header), 8, request_id);
  store(std::span<std::byte>(header), 40, deadline_us);
  store(std::span<std::byte>(header), 48, clock_us);
  seal_header(header);
}

void seal_header(std::span<std::byte, kHeaderBytes> header) {
  store(std::span<std::byte>(header), kHeaderCheckOffset, header_check(header));
}

std::uint64_t readable_request_id(Bytes header_frame) {
  if (header_frame.size() < 16) return 0;
  if (std::memcmp(header_frame.data(), kMagic.data(), kMagic.size()) != 0) return 0;
  return load<std::uint64_t>(header_frame, 8);
}

std::uint16_t readable_version(Bytes header_frame) {
  if (readable_request_id(header_frame) == 0) return 0;
  return load<std::uint16_t>(header_frame, 4);
}

}  // namespace splitee::transport
