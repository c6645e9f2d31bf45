#include "transport/connection_guard.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace splitee::transport {
namespace {

constexpr int kEvents = ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED;

std::uint64_t cookie_of(int descriptor) {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  return getsockopt(descriptor, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

// Nothing for what is no TCP connection (any more).
std::optional<std::uint64_t> received_bytes(int descriptor) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
  if (size < offsetof(tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received) {
    return std::nullopt;
  }
  return info.tcpi_bytes_received;
}

// ZeroMQ notices at once and closes the descriptor; the kernel forgets the connection then.
void cut_off(int descriptor) {
  const linger at_once{1, 0};
  setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  shutdown(descriptor, SHUT_RDWR);
}

}  // namespace

ConnectionGuard::ConnectionGuard(zmq::context_t& context, zmq::socket_t& socket,
                                 const Limits& limits, ServerCounters& counters)
    : socket_(socket), limits_(limits), counters_(counters) {
  const std::string address = "inproc://connections";
  if (zmq_socket_monitor(socket_.handle(), address.c_str(), kEvents) != 0) throw zmq::error_t();
  zmq::socket_t monitor(context, zmq::socket_type::pair);
  monitor.connect(address);
  monitor_ = Channel(std::move(monitor));
}

ConnectionGuard::~ConnectionGuard() {
  zmq_socket_monitor(socket_.handle(), nullptr, 0);
}

void ConnectionGuard::update() {
  Received received;
  while (monitor_.receive(received)) {
    const std::span<const std::byte> bytes = bytes_of(received.parts.front());
    std::uint16_t event;
    std::int32_t descriptor;
    if (bytes.size() != sizeof event + sizeof descriptor) continue;
    std::memcpy(&event, bytes.data(), sizeof event);
    std::memcpy(&descriptor, bytes.data() + sizeof event, sizeof descriptor);
    if (event == ZMQ_EVENT_ACCEPTED) {
      accepted(descriptor);
    } else {
      connections_.erase(descriptor);
    }
  }
  counters_.connections = connections_.size();
}

void ConnectionGuard::accepted(int descriptor) {
  ++counters_.connections_accepted;
  connections_[descriptor] = {.cookie = cookie_of(descriptor)};
  if (connections_.size() <= limits_.max_connections) return;
  ++counters_.connections_over_limit;
  cut_off(descriptor);
}

void ConnectionGuard::delivered(Received& message) {
  const auto it = connections_.find(zmq_msg_get(message.parts.back().handle(), ZMQ_SRCFD));
  if (it == connections_.end()) return;
  it->second.delivered = true;
  // The first part is ZeroMQ's: where it came from.
  it->second.read_bytes += message.bytes - message.parts.front().size() +
                           limits_.framing_bytes * (message.part_count - 1);
}

bool ConnectionGuard::over_limit(Connection& connection, std::uint64_t bytes,
                                 std::atomic<std::uint64_t>*& reason) const {
  if (connection.delivered) connection.whole_bytes = bytes;
  connection.delivered = false;
  const std::uint64_t come = connection.unread_bytes + (bytes - connection.seen_bytes);
  connection.unread_bytes = drained_ ? 0 : come - std::min(come, connection.read_bytes);
  connection.seen_bytes = bytes;
  connection.read_bytes = 0;
  const bool endless = bytes > connection.whole_bytes + limits_.max_message_bytes;
  reason = endless ? &counters_.endless_messages : &counters_.floods;
  return endless || connection.unread_bytes > limits_.max_unread_bytes;
}

void ConnectionGuard::scan(std::int64_t now_us) {
  if (connections_.empty() || now_us < next_scan_us_) return;
  next_scan_us_ = now_us + kScanUs;
  for (auto& [descriptor, connection] : connections_) {
    const std::optional<std::uint64_t> bytes = received_bytes(descriptor);
    if (!bytes || connection.cut) continue;
    std::atomic<std::uint64_t>* reason = nullptr;
    const bool over = over_limit(connection, *bytes, reason);
    // The descriptor may be another connection's by now, whose event is on its way.
    if (over && connection.suspect && cookie_of(descriptor) == connection.cookie) {
      ++*reason;
      connection.cut = true;
      cut_off(descriptor);
    }
    connection.suspect = over;
  }
}

}  // namespace splitee::transport
