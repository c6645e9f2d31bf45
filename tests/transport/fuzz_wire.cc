// libFuzzer target for the decoder. The input is one message: a byte that says how many bytes the
// header frame has, the header, the payload. Half of the inputs get a fitting magic, version,
// size and checksum, so that the rules behind them are reached.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "transport/checksum.h"
#include "transport/wire.h"

namespace {

using splitee::transport::Frames;
using splitee::transport::Infer;
using splitee::transport::Message;
using View = std::span<const std::byte>;

void require(bool condition) {
  if (!condition) std::abort();
}

void reseal(std::vector<std::byte>& header, View payload) {
  if (header.size() != splitee::transport::kHeaderBytes) return;
  std::memcpy(header.data(), "SPLE\1\0", 6);
  header[6] &= std::byte{7};
  const std::uint64_t size = payload.size();
  std::memcpy(header.data() + 56, &size, sizeof size);
  const std::uint64_t sum = splitee::transport::payload_checksum(payload);
  std::memcpy(header.data() + 64, &sum, sizeof sum);
  splitee::transport::seal_header(std::span(header).first<splitee::transport::kHeaderBytes>());
}

void read_values(const Infer& infer) {
  const std::size_t count = std::size_t{infer.tokens} * infer.hidden;
  if (infer.dtype == splitee::transport::Dtype::kTokens) {
    std::vector<std::int32_t> ids(infer.tokens), types(infer.tokens);
    (void)!read_tokens(infer, ids, types).ok();
    return;
  }
  std::vector<float> values(count);
  if (read_activation(infer, values).ok()) require(splitee::transport::all_finite(values));
  if (const auto view = view_activation(infer)) require(view->size() == count);
}

// What was decoded, encoded again, is the same message.
void check_again(const Message& message, View header, View payload) {
  const auto same = [&](const Frames& frames) {
    require(std::ranges::equal(frames.header, header));
    require(std::ranges::equal(frames.payload.bytes(), payload));
  };
  std::visit(
      [&](const auto& body) {
        if constexpr (std::is_same_v<std::decay_t<decltype(body)>, Infer>) {
          read_values(body);
        } else {
          same(encode(message.envelope, body));
        }
      },
      message.body);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const bool fitting = (data[0] & 0x80) != 0;
  const std::size_t header_bytes = std::min<std::size_t>(data[0] & 0x7f, size - 1);
  const auto* bytes = reinterpret_cast<const std::byte*>(data + 1);
  std::vector<std::byte> header(bytes, bytes + header_bytes);
  const std::vector<std::byte> payload(bytes + header_bytes, bytes + size - 1);
  if (fitting) reseal(header, payload);
  const View frames[] = {header, payload};
  (void)splitee::transport::readable_request_id(header);
  const auto message = splitee::transport::decode(frames);
  if (message.ok()) check_again(*message, header, payload);
  return 0;
}
