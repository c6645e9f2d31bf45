#include "transport/zmq/connection_guard.h"

#include <algorithm>
#include <cstddef>
#include <new>
#include <optional>

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

namespace splitee::transport {
namespace {

constexpr int kEvents = ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED |
                        ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;

// TCP_ESTABLISHED of <netinet/tcp.h>, which does not go together with <linux/tcp.h>.
constexpr std::uint8_t kEstablished = 1;

std::uint64_t cookie_of(int descriptor) {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  return getsockopt(descriptor, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

struct TcpState {
  std::uint64_t received_bytes = 0;
  bool ended = false;  // the other side sends no more
};

// Nothing for what is no TCP connection.
std::optional<TcpState> tcp_state(int descriptor) {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return std::nullopt;
  if (size < offsetof(tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received) {
    return std::nullopt;
  }
  return TcpState{info.tcpi_bytes_received, info.tcpi_state != kEstablished};
}

// ZeroMQ notices at once and closes the descriptor; the kernel forgets the connection then.
void cut_off(int descriptor) {
  const linger at_once{1, 0};
  setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  shutdown(descriptor, SHUT_RDWR);
}

// Of those that an operator can do something about; port scans and health checks are none.
const char* failure_of(std::uint32_t protocol_error) {
  switch (protocol_error) {
    case ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC:
    case ZMQ_PROTOCOL_ERROR_ZMTP_KEY_EXCHANGE:
      return "a handshake failed: an edge has another server key than this server's, or a secret "
             "key that does not belong to its public key";
    case ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
      return "a handshake failed: an edge has no keys and this server has, or the other way round";
    default:
      return nullptr;
  }
}

}  // namespace

ConnectionGuard::ConnectionGuard(zmq::context_t& context, zmq::socket_t& socket,
                                 const Limits& limits, KeyBook& book, ServerCounters& counters)
    : socket_(socket),
      limits_(limits),
      book_(book),
      counters_(counters),
      monitor_(context, socket, kEvents) {}

ConnectionGuard::~ConnectionGuard() {
  for (const auto& [descriptor, connection] : connections_) {
    if (!connection.user.empty()) book_.ended(connection.user);
  }
  stop_monitor(socket_);
}

bool ConnectionGuard::update(std::int64_t now_us) {
  bool any = false;
  while (const std::optional<MonitorEvent> event = monitor_.next()) {
    any = true;
    switch (event->event) {
      case ZMQ_EVENT_ACCEPTED:
        accepted(static_cast<int>(event->value), now_us);
        break;
      case ZMQ_EVENT_DISCONNECTED:
        ended(static_cast<int>(event->value));
        break;
      case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        ++handshakes_;
        break;
      default:
        handshake_failed(*event);
    }
  }
  counters_.connections = connections_.size();
  return any;
}

void ConnectionGuard::accepted(int descriptor, std::int64_t now_us) {
  ++counters_.connections_accepted;
  ended(descriptor);
  try {
    Connection& connection = connections_[descriptor];
    connection.cookie = cookie_of(descriptor);
    connection.since_us = now_us;
  } catch (const std::bad_alloc&) {
    // What cannot be watched is not let in.
    ++counters_.connections_over_limit;
    return cut_off(descriptor);
  }
  ++silent_;
  if (connections_.size() <= limits_.max_connections) return;
  cut(descriptor, connections_[descriptor], counters_.connections_over_limit);
}

void ConnectionGuard::ended(int descriptor) {
  const auto it = connections_.find(descriptor);
  if (it == connections_.end()) return;
  if (!it->second.speaks) --silent_;
  if (!it->second.user.empty()) book_.ended(it->second.user);
  connections_.erase(it);
}

void ConnectionGuard::handshake_failed(const MonitorEvent& event) {
  ++counters_.handshakes_failed;
  const char* const text = failure_of(event.value);
  if (text == nullptr || std::ranges::find(failures_, text) != failures_.end()) return;
  failures_.emplace_back(text);
}

std::vector<std::string> ConnectionGuard::take_failures() {
  return std::exchange(failures_, {});
}

void ConnectionGuard::delivered(Received& message, const char* user) {
  const auto it = connections_.find(zmq_msg_get(message.parts.back().handle(), ZMQ_SRCFD));
  if (it == connections_.end()) return;
  Connection& connection = it->second;
  connection.delivered = true;
  // The first part is ZeroMQ's: where it came from.
  connection.read_bytes += message.bytes - message.parts.front().size() +
                           limits_.framing_bytes * (message.part_count - 1);
  if (connection.speaks) return;
  connection.speaks = true;
  ++spoke_;
  --silent_;
  if (*user == '\0') return;
  book_.speaks(user);
  connection.user = user;
}

void ConnectionGuard::look(Connection& connection, std::uint64_t bytes) {
  if (connection.delivered) connection.whole_bytes = bytes;
  connection.delivered = false;
  const std::uint64_t come = connection.unread_bytes + (bytes - connection.seen_bytes);
  connection.unread_bytes = drained_ ? 0 : come - std::min(come, connection.read_bytes);
  connection.seen_bytes = bytes;
  connection.read_bytes = 0;
}

std::atomic<std::uint64_t>* ConnectionGuard::over_limit(const Connection& connection,
                                                        std::int64_t now_us) const {
  if (!connection.speaks && now_us - connection.since_us > limits_.silent_us) {
    return &counters_.silent_connections;
  }
  const std::uint64_t most = connection.speaks ? limits_.max_message_bytes
                                               : std::min(kFirstBytes, limits_.max_message_bytes);
  if (connection.unfinished_bytes() > most) return &counters_.endless_messages;
  if (connection.unread_bytes > limits_.max_unread_bytes) return &counters_.floods;
  return nullptr;
}

void ConnectionGuard::cut(int descriptor, Connection& connection,
                          std::atomic<std::uint64_t>& reason) {
  // The descriptor may be another connection's by now, whose event is on its way.
  if (connection.cut || cookie_of(descriptor) != connection.cookie) return;
  ++reason;
  connection.cut = true;
  cut_off(descriptor);
}

void ConnectionGuard::scan(std::int64_t now_us) {
  if (connections_.empty()) unfinished_bytes_ = stuck_ = 0;
  if (connections_.empty() || now_us < next_scan_us_) return;
  std::uint64_t unfinished = 0;
  stuck_ = 0;
  bool suspects = false;
  for (auto& [descriptor, connection] : connections_) {
    if (const std::optional<TcpState> state = tcp_state(descriptor)) {
      look(connection, state->received_bytes);
      if (!state->ended) connection.ended_us = 0;
      if (state->ended && connection.ended_us == 0) connection.ended_us = now_us;
    }
    if (connection.ended_us != 0 && now_us - connection.ended_us >= kStuckUs) ++stuck_;
    std::atomic<std::uint64_t>* const reason = over_limit(connection, now_us);
    if (reason != nullptr && connection.suspect) cut(descriptor, connection, *reason);
    connection.suspect = reason != nullptr;
    if (connection.cut) continue;
    unfinished += connection.unfinished_bytes();
    suspects = suspects || connection.suspect;
  }
  // What is not read yet may be whole messages.
  const bool too_much = drained_ && unfinished > limits_.max_unfinished_bytes;
  if (too_much && too_much_) cut_largest(unfinished);
  too_much_ = too_much;
  unfinished_bytes_ = unfinished;
  const bool close = suspects || unfinished > limits_.max_unfinished_bytes / 8;
  next_scan_us_ = now_us + (close ? kCloseScanUs : kScanUs);
}

void ConnectionGuard::cut_largest(std::uint64_t unfinished_bytes) {
  std::vector<Connections::iterator> largest;
  for (auto it = connections_.begin(); it != connections_.end(); ++it) largest.push_back(it);
  std::ranges::sort(largest, std::greater(),
                    [](const Connections::iterator& it) { return it->second.unfinished_bytes(); });
  for (const Connections::iterator& it : largest) {
    if (unfinished_bytes <= limits_.max_unfinished_bytes) return;
    if (it->second.cut) continue;
    unfinished_bytes -= std::min(unfinished_bytes, it->second.unfinished_bytes());
    cut(it->first, it->second, counters_.endless_messages);
  }
}

}  // namespace splitee::transport
