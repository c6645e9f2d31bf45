// Wire protocol v2: how an edge and a server talk. Pure encoding and decoding, no sockets.
//
// Thread rule: free functions, re-entrant; values are plain.
// Ownership: encoders return buffers they own; decode() returns views into the caller's frames,
// which must live as long as the Message is used.
// Errors: bytes that break a rule below give a Status that names the field (kUnsupported for
// another protocol version, kCorrupt for the rest). Sizes are checked before anything is
// allocated, and a decoder never allocates more than a small multiple of the bytes received.
//
// Sockets: ZeroMQ, ROUTER at the server, DEALER at the edge, which connects; where the server has
// keys, both with CURVE, and the edge's public key on the server's list. A routing id says nothing.
// Every message is one ZeroMQ message of exactly two frames: header, payload. A payload frame is
// always there, empty where a type has none. All numbers are little-endian; f32 is IEEE binary32,
// f16 IEEE binary16. Nothing promises alignment.
//
// Header frame, kHeaderBytes = 72 bytes
//   offset size field
//        0    4 magic        'S' 'P' 'L' 'E'
//        4    2 version      2
//        6    1 type         MessageType
//        7    1 dtype        Dtype of the payload's tensor: infer's, and kF32 in a reply; else 0
//        8    8 request id   chosen by the edge, never 0, growing from message to message of a
//                            session; an answer repeats it. 0 only in a refuse whose request could
//                            not be read
//       16    8 model hash   content hash of the sender's model file; 0 in ping and pong
//       24    4 layer        infer: layer whose output is sent, 0 for an input; else 0
//       28    4 rows         infer: rows of the tensor; of an input its length in the units of its
//                            network (tokens of a text, 1 for a row of numbers); else 0
//       32    4 cols         infer: columns of the tensor; of an input its kind (1 text, 2 numbers,
//                            3 image); reply: classes; else 0
//       36    4 header check low half of content_hash() (base/hash.h) of the header,
//                            these four taken as zero
//       40    8 time us      infer: what is left of the deadline, 1 .. kMaxDeadlineUs;
//                            reply: time between receiving the request and sending the reply;
//                            else 0
//       48    8 clock us     the sender's monotonic clock when it sent, of any epoch. A server
//                            compares the delays of one peer's messages with each other, and so
//                            finds requests that were stuck on the way, without a common clock
//       56    8 payload size bytes of the payload frame, <= kMaxPayloadBytes
//       64    8 checksum     of the payload, see transport/wire/checksum.h
// The two checks are apart so that a server can read the header at once, and the payload of a
// request where it is needed, in one pass with the decoding. They find accidents; authenticity is
// CURVE's work.
// Magic, version, type and request id keep their places in every version to come.
//
// Payloads
//   hello    u16 lowest version | u16 highest version | u32 capabilities (bit d: Dtype d is spoken,
//            other bits 0) | u32 window (requests the edge keeps in flight) | u32 0
//   welcome  u32 capabilities | u32 max length (of an input, in units) | u32 layers | u32 kind of
//            input | u32 classes | u32 window (requests in flight the server takes from this edge)
//            | u64 0
//   infer    kF32    rows * cols f32, row major, as they leave the layer; padding is never sent. A
//                    text's rows are its tokens, an image's its pixels (line by line), and columns
//                    are channels
//            kF16    rows * cols f16
//            kI8     rows f32 scales, then rows * cols i8 in -127 .. 127; row r's values are
//                    scale[r] * q; scales are finite and >= 0
//            kInput  1 .. kMaxPayloadBytes bytes, in the form that the network of this kind of
//                    input documents: of a text, u32 ids, then as many u8 token types
//                    (runtime/bert/text_input.h)
//   reply    u32 class | f32 confidence | classes f32 probabilities. Probabilities are in [0, 1],
//            their sum is 1 within 0.001, class is an index of the largest, confidence its value
//   refuse   u32 RefuseCode | 0 .. kMaxTextBytes of printable ASCII
//   ping, pong: empty
//
// Version 1 named the columns of one kind of network only: its infer held token ids (5 * tokens
// bytes, with 0 as columns) as type 4, its welcome the hidden size where the kind of input is now.
// All else was the same. A peer of version 1 is refused (kUnsupportedVersion), in a refuse of its
// own version, which it can read.
//
// Conversation. An edge says hello first; the server answers welcome, or refuse (wrong model,
// unsupported version, shutting down). After a welcome the edge may send infer, each answered by
// one reply or one refuse with the same id. A refuse of kNoSession asks for a new hello. ping is
// answered by pong at any time. A message that breaks the rules is answered by one refuse at most.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/limits.h"
#include "base/status.h"

namespace splitee::transport {

inline constexpr std::uint16_t kProtocolVersion = 2;
inline constexpr std::size_t kHeaderBytes = 72;
inline constexpr std::uint64_t kMaxPayloadBytes = 1u << 28;
inline constexpr std::uint64_t kMaxDeadlineUs = 3'600'000'000;  // an hour
inline constexpr std::uint32_t kMaxRows = 1u << 16;
inline constexpr std::uint32_t kMaxCols = 1u << 16;
inline constexpr std::uint32_t kMaxLayers = 1u << 12;
using splitee::kMaxClasses;
inline constexpr std::uint32_t kMaxWindow = 1u << 16;
inline constexpr std::size_t kMaxTextBytes = 200;
// Longest frame a server sends: what an edge accepts at all.
inline constexpr std::size_t kMaxAnswerBytes = 8 + 4 * std::size_t{kMaxClasses};

enum class MessageType : std::uint8_t {
  kHello = 1,
  kWelcome = 2,
  kInfer = 3,
  kReply = 4,
  kRefuse = 5,
  kPing = 6,
  kPong = 7,
};

enum class Dtype : std::uint8_t { kNone = 0, kF32 = 1, kF16 = 2, kI8 = 3, kInput = 4 };

constexpr std::uint32_t capability(Dtype dtype) {
  return 1u << static_cast<unsigned>(dtype);
}
inline constexpr std::uint32_t kAllCapabilities = capability(Dtype::kF32) |
                                                  capability(Dtype::kF16) | capability(Dtype::kI8) |
                                                  capability(Dtype::kInput);

// Whose fault it is, whether another server may well answer the same request (is_retryable()), and
// where a server counts it besides splitee_refusals_total and splitee_refused_total{code}:
//   busy                 nobody's, there is too much work   yes  shed{reason}
//   bad request          the edge's, or damage on the way   no   bad_frames
//   wrong model          whoever changed one file only      yes  bad_frames, where it is an infer
//   expired              nobody's, the time is over         no   shed{reason}
//   shutting down        nobody's                           yes  shed{reason}, where it is an infer
//   unsupported version  whoever updated one side only      yes  bad_frames, but not for a hello
//   no session           nobody's, the server is new        yes
//   internal             the server's                       yes  and its log says what has failed
// An edge that cannot or may not try another server finishes the sample itself, whatever the code.
enum class RefuseCode : std::uint32_t {
  kBusy = 1,                // the queue is full; finish it yourself
  kBadRequest = 2,          // breaks the protocol or does not fit the model
  kWrongModel = 3,          // the header's hash is the server's
  kExpired = 4,             // the deadline passed before the work began
  kShuttingDown = 5,        // go elsewhere
  kUnsupportedVersion = 6,  // the header's version is the server's
  kNoSession = 7,           // say hello first
  kInternal = 8,            // the server failed on a good request
};

bool is_retryable(RefuseCode code);
// The word for messages and logs: "busy", "wrong model", ...
std::string_view to_string(RefuseCode code);
// "f32", "f16", "i8", "input", "none".
std::string_view to_string(Dtype dtype);
// The dtype of --activation: f32, f16 or i8.
std::optional<Dtype> activation_dtype(std::string_view name);

// Bytes on their way out. Not zeroed at the start.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size)
      : data_(std::make_unique_for_overwrite<std::byte[]>(size)), size_(size) {}
  std::span<std::byte> bytes() { return {data_.get(), size_}; }
  std::span<const std::byte> bytes() const { return {data_.get(), size_}; }
  std::size_t size() const { return size_; }
  // Hands the bytes over to a `delete[]`.
  std::byte* release() {
    size_ = 0;
    return data_.release();
  }

 private:
  std::unique_ptr<std::byte[]> data_;
  std::size_t size_ = 0;
};

// One encoded message.
struct Frames {
  std::array<std::byte, kHeaderBytes> header;
  Buffer payload;
  std::size_t size() const { return header.size() + payload.size(); }
};

// What every message carries.
struct Envelope {
  std::uint64_t request_id = 0;
  std::uint64_t model_hash = 0;
  std::uint64_t clock_us = 0;
};

struct Hello {
  std::uint16_t lowest_version = kProtocolVersion;
  std::uint16_t highest_version = kProtocolVersion;
  std::uint32_t capabilities = kAllCapabilities;
  std::uint32_t window = 1;
};

struct Welcome {
  std::uint32_t capabilities = kAllCapabilities;
  std::uint32_t max_length = 0;
  std::uint32_t layers = 0;
  std::uint32_t input_kind = 0;
  std::uint32_t classes = 0;
  std::uint32_t window = 1;
};

struct Infer {
  std::uint32_t layer = 0;
  std::uint32_t rows = 0;
  std::uint32_t cols = 0;  // of kInput: its kind
  Dtype dtype = Dtype::kNone;
  std::uint64_t deadline_us = 0;       // left when it was sent
  std::span<const std::byte> payload;  // its size fits the shape; see read_activation()
  std::uint64_t checksum = 0;          // of the payload
};

// Answer to an infer request.
struct Reply {
  std::uint64_t request_id = 0;
  std::uint32_t class_index = 0;
  float confidence = 0;
  std::vector<float> probabilities;  // (classes)
  std::uint32_t server_us = 0;       // received to sent
};

struct Refusal {
  RefuseCode code = RefuseCode::kInternal;
  std::string text;  // printable ASCII; encoding cuts and cleans it
};

struct Ping {};
struct Pong {};

using Body = std::variant<Hello, Welcome, Infer, Reply, Refusal, Ping, Pong>;

struct Message {
  Envelope envelope;
  Body body;
};

Frames encode(const Envelope& envelope, const Hello& hello);
Frames encode(const Envelope& envelope, const Welcome& welcome);
// The envelope's request id counts, the reply's own is not looked at.
Frames encode(const Envelope& envelope, const Reply& reply);
Frames encode(const Envelope& envelope, const Refusal& refusal);
Frames encode(const Envelope& envelope, Ping ping);
Frames encode(const Envelope& envelope, Pong pong);

// `activation` is (rows, cols) as infer says, its dtype kF32, kF16 or kI8; infer.payload is
// not looked at. f16 saturates at +-65504. Fails (kInvalidArgument) on a shape beyond the
// protocol's limits and on values that are not finite.
Result<Frames> encode_activation(const Envelope& envelope, const Infer& infer,
                                 std::span<const float> activation);
// Layer 0: an input of a kind, `length` units long. Fails on sizes beyond the protocol's limits.
Result<Frames> encode_input(const Envelope& envelope, std::uint64_t deadline_us, std::uint32_t kind,
                            std::size_t length, std::span<const std::byte> input);
// What a peer of version 1 gets, as that version has it.
Frames encode_for_version_1(const Envelope& envelope, const Refusal& refusal);

// Checks everything but a tensor's values. Views of `frames` are inside the message.
Result<Message> decode(std::span<const std::span<const std::byte>> frames);
// The same, but the payload of an infer is not looked at: read_activation(), check_view() and
// check_input() find out whether it is what was sent.
Result<Message> decode_deferred(std::span<const std::span<const std::byte>> frames);

// Gives the header of an encoded infer another request id, deadline and clock.
void restamp_infer(std::span<std::byte, kHeaderBytes> header, std::uint64_t request_id,
                   std::uint64_t deadline_us, std::uint64_t clock_us);
// Makes the header check fit the other 68 bytes.
void seal_header(std::span<std::byte, kHeaderBytes> header);

// Bytes of an activation's payload; 0 where shape or dtype do not fit the limits, or for kInput.
std::uint64_t activation_bytes(Dtype dtype, std::uint64_t rows, std::uint64_t cols);

// Writes the payload of kF32, kF16 or kI8 for a shape that activation_bytes() took, and returns
// its checksum; nothing where a value is not finite.
std::optional<std::uint64_t> write_activation(const Infer& infer, std::span<const float> activation,
                                              std::span<std::byte> out);
// The activation of a decoded infer of kF32, kF16 or kI8 as floats, `out` (rows * cols).
// Fails on a wrong checksum and on values that are not finite or out of range.
Status read_activation(const Infer& infer, std::span<float> out);
// The activation where it lies, where the payload is kF32 and happens to be aligned.
std::optional<std::span<const float>> view_activation(const Infer& infer);
// What read_activation() checks, for a view.
Status check_view(const Infer& infer, std::span<const float> view);
// Fails where the payload of a decoded infer of kInput is not what was sent.
Status check_input(const Infer& infer);

// The request id of a frame that decode() refused, so that the refusal can name it; 0 where it
// cannot be read.
std::uint64_t readable_request_id(std::span<const std::byte> header_frame);
// The version that such a frame claims; 0 where it cannot be read.
std::uint16_t readable_version(std::span<const std::byte> header_frame);

}  // namespace splitee::transport
