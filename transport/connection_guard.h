// Bounds what ZeroMQ itself does not: the connections of a listening socket, the bytes of a message
// that never ends, and the bytes of messages that are not read yet. ZeroMQ collects all parts of a
// message before it hands over the first, without a limit; it also accepts connections until the
// process has no descriptors left.
//
// Connections are learned from the socket's monitor; one too many is shut down as soon as it is
// seen. For each TCP connection the kernel says how many bytes it has received; where more than
// the longest legal message has come since the last whole one, twice in a row, it is shut down; and
// where more waits to be read than an edge that keeps to its window can have sent.
// Between two looks (kScanUs) a peer can still send as fast as the link is. Connections that are
// not TCP are counted only.
// Thread rule: the thread of the socket. Errors: the constructor throws zmq::error_t.
#pragma once

#include <cstdint>
#include <unordered_map>

#include <zmq.hpp>

#include "transport/channel.h"
#include "transport/counters.h"
#include "transport/socket.h"

namespace splitee::transport {

class ConnectionGuard {
 public:
  static constexpr std::int64_t kScanUs = 50'000;

  struct Limits {
    std::size_t max_connections = 0;
    std::uint64_t max_message_bytes = 0;  // on the wire, framing included
    std::uint64_t max_unread_bytes = 0;   // of one connection
    std::uint64_t framing_bytes = 0;      // of each part of a message, at least
  };

  // Watches `socket`, which is not bound yet and outlives the guard.
  ConnectionGuard(zmq::context_t& context, zmq::socket_t& socket, const Limits& limits,
                  ServerCounters& counters);
  ConnectionGuard(const ConnectionGuard&) = delete;
  ConnectionGuard& operator=(const ConnectionGuard&) = delete;
  ~ConnectionGuard();

  // Pending when connections have come or gone.
  Channel& channel() { return monitor_; }
  // Takes in what has come and gone.
  void update();
  // A whole message has been read.
  void delivered(Received& message);
  // Whether the last reading left no message behind.
  void drained(bool all_read) { drained_ = all_read; }
  // Looks at the bytes received, where it is time. Call it after all messages were read.
  void scan(std::int64_t now_us);
  // When scan() next has something to do; negative where there is no connection.
  std::int64_t next_scan_us() const { return connections_.empty() ? -1 : next_scan_us_; }

 private:
  struct Connection {
    std::uint64_t cookie = 0;       // of the kernel's socket: descriptors are used again
    std::uint64_t whole_bytes = 0;  // received when the last whole message was seen
    bool delivered = false;         // one came since the last look
    std::uint64_t seen_bytes = 0;   // received at the last look
    std::uint64_t read_bytes = 0;   // since then
    std::uint64_t unread_bytes = 0;
    bool suspect = false;  // over a limit at the last look
    bool cut = false;
  };
  void accepted(int descriptor);
  // Whether it is over a limit, now that so many bytes have come; counts in `reason`.
  bool over_limit(Connection& connection, std::uint64_t bytes,
                  std::atomic<std::uint64_t>*& reason) const;

  zmq::socket_t& socket_;
  const Limits limits_;
  ServerCounters& counters_;
  Channel monitor_;
  std::unordered_map<int, Connection> connections_;  // by descriptor
  std::int64_t next_scan_us_ = 0;
  bool drained_ = true;
};

}  // namespace splitee::transport
