#include "transport/zmq/socket.h"

#include <cerrno>
#include <chrono>

namespace splitee::transport {
namespace {

constexpr std::size_t kCurveKeyBytes = 32;
constexpr std::size_t kCurveKeyLetters = 40;

bool send_part(zmq::socket_t& socket, zmq::message_t part, int flags) {
  while (zmq_msg_send(part.handle(), socket.handle(), flags | ZMQ_DONTWAIT) < 0) {
    if (errno != EINTR) return false;
  }
  return true;
}

void free_payload(void* data, void*) {
  delete[] static_cast<std::byte*>(data);
}

zmq::message_t to_message(Buffer buffer) {
  const std::size_t size = buffer.size();
  if (size == 0) return {};
  std::byte* data = buffer.release();
  try {
    return zmq::message_t(data, size, free_payload, nullptr);
  } catch (...) {
    delete[] data;
    throw;
  }
}

}  // namespace

std::int64_t now_us() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

void configure(zmq::socket_t& socket, std::int64_t max_frame_bytes, int high_water) {
  using namespace zmq::sockopt;
  // Unsent messages must not hold up the end of the process.
  socket.set(linger, 0);
  // Messages, not bytes, and per peer: the default of 1000 is hundreds of megabytes a peer.
  socket.set(sndhwm, high_water);
  // No limit here: ZeroMQ (4.3.5 and before) ends the whole process where it has stopped reading
  // from a peer that then goes and that has heartbeats (libzmq issues 4364 and 3937). Messages are
  // read at once, and the server's ConnectionGuard cuts who sends faster.
  socket.set(rcvhwm, 0);
  // No call here blocks; these are a second line behind DONTWAIT.
  socket.set(sndtimeo, 0);
  socket.set(rcvtimeo, 0);
  // A peer that announces more is cut before the memory is taken (the default is no limit).
  socket.set(maxmsgsize, max_frame_bytes);
  // A peer that is stopped or cut off without a FIN is noticed (off by default).
  socket.set(heartbeat_ivl, 500);
  socket.set(heartbeat_timeout, 1'500);
  socket.set(heartbeat_ttl, 2'000);
  // The same one layer below, for a peer whose ZeroMQ does not answer heartbeats.
  socket.set(tcp_keepalive, 1);
  socket.set(tcp_keepalive_idle, 5);
  socket.set(tcp_keepalive_intvl, 2);
  socket.set(tcp_keepalive_cnt, 3);
  // Sent bytes that nobody acknowledges end the connection (default: many minutes).
  socket.set(tcp_maxrt, 5'000);
}

std::optional<std::string> decode_curve_key(const std::string& key) {
  if (key.size() != kCurveKeyLetters) return std::nullopt;
  std::string bytes(kCurveKeyBytes, '\0');
  auto* out = reinterpret_cast<std::uint8_t*>(bytes.data());
  if (zmq_z85_decode(out, key.c_str()) == nullptr) return std::nullopt;
  return bytes;
}

bool receive(zmq::socket_t& socket, Received& received) {
  received.parts.clear();
  received.parts.reserve(Received::kKeptParts);
  received.part_count = 0;
  received.bytes = 0;
  for (bool more = true; more;) {
    zmq::message_t part;
    if (zmq_msg_recv(part.handle(), socket.handle(), ZMQ_DONTWAIT) < 0) {
      if (errno == EINTR) continue;
      return false;
    }
    more = part.more();
    ++received.part_count;
    received.bytes += part.size();
    if (received.parts.size() < Received::kKeptParts) received.parts.push_back(std::move(part));
  }
  return true;
}

bool send(zmq::socket_t& socket, std::span<const std::byte> routing_id, Frames frames) {
  if (!routing_id.empty() &&
      !send_part(socket, zmq::message_t(routing_id.data(), routing_id.size()), ZMQ_SNDMORE)) {
    return false;
  }
  zmq::message_t header(frames.header.data(), frames.header.size());
  return send_part(socket, std::move(header), ZMQ_SNDMORE) &&
         send_part(socket, to_message(std::move(frames.payload)), 0);
}

}  // namespace splitee::transport
