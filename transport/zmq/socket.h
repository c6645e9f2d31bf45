// The ZeroMQ part that client and server share: every option set on purpose, whole messages in and
// out. Only transport's .cc files include this header.
// Thread rule: a socket stays in one thread. Errors: no exception leaves these functions but
// configure()'s, whose callers catch zmq::error_t.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <zmq.hpp>

#include "transport/wire/wire.h"

namespace splitee::transport {

// Microseconds of the monotonic clock: never set, never jumps.
std::int64_t now_us();

// Options that mean the same on both sides. `max_frame_bytes` is the longest frame taken from the
// peer, `high_water` the messages that may wait to be sent to one peer.
void configure(zmq::socket_t& socket, std::int64_t max_frame_bytes, int high_water);

// Whether `key` is a Z85 text of a 32-byte CURVE key; its bytes.
std::optional<std::string> decode_curve_key(const std::string& key);

inline std::span<const std::byte> bytes_of(const zmq::message_t& part) {
  return {static_cast<const std::byte*>(part.data()), part.size()};
}

// One received message. Parts beyond kKeptParts are counted and dropped, however many there are.
struct Received {
  static constexpr std::size_t kKeptParts = 4;
  std::vector<zmq::message_t> parts;
  std::size_t part_count = 0;
  std::uint64_t bytes = 0;  // of all parts

  // The parts' bytes from the part `first` on; valid until the next call.
  std::span<const std::span<const std::byte>> frames(std::size_t first = 0) {
    for (std::size_t i = first; i < parts.size(); ++i) views_[i] = bytes_of(parts[i]);
    return std::span(views_).subspan(first, parts.size() - first);
  }

 private:
  std::array<std::span<const std::byte>, kKeptParts> views_;
};

// The next whole message; false where none waits. Never blocks.
bool receive(zmq::socket_t& socket, Received& received);

// Sends `frames`, to the peer `routing_id` where that is not empty. False where it cannot be sent
// at once; errno says why. Never blocks. The payload is not copied.
bool send(zmq::socket_t& socket, std::span<const std::byte> routing_id, Frames frames);

}  // namespace splitee::transport
