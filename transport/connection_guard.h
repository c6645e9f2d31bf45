// Bounds what ZeroMQ itself does not: the connections of a listening socket, and the bytes of a
// message that never ends. ZeroMQ collects all parts of a message before it hands over the first,
// without a limit; it also accepts connections until the process has no descriptors left.
//
// Connections are learned from the socket's monitor; one too many is shut down as soon as it is
// seen. For each TCP connection the kernel says how many bytes it has received; where more than
// the longest legal message has come since the last whole one, twice in a row, it is shut down.
// Between two looks (kScanUs) a peer can still send as fast as the link is. Connections that are
// not TCP are counted only.
// Thread rule: the thread of the socket. Errors: the constructor throws zmq::error_t.
#pragma once

#include <cstdint>
#include <unordered_map>

#include <zmq.hpp>

#include "transport/channel.h"
#include "transport/counters.h"

namespace splitee::transport {

class ConnectionGuard {
 public:
  static constexpr std::int64_t kScanUs = 50'000;

  struct Limits {
    std::size_t max_connections = 0;
    std::uint64_t max_message_bytes = 0;  // on the wire, framing included
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
  // A whole message has come, of which this is a part.
  void delivered(zmq::message_t& part);
  // Looks at the bytes received, where it is time. Call it after all messages were read.
  void scan(std::int64_t now_us);
  // When scan() next has something to do; negative where there is no connection.
  std::int64_t next_scan_us() const { return connections_.empty() ? -1 : next_scan_us_; }

 private:
  struct Connection {
    std::uint64_t cookie = 0;       // of the kernel's socket: descriptors are used again
    std::uint64_t whole_bytes = 0;  // received when the last whole message was seen
    bool delivered = false;         // one came since the last look
    bool suspect = false;           // over the limit at the last look
    bool cut = false;
  };
  void accepted(int descriptor);

  zmq::socket_t& socket_;
  const Limits limits_;
  ServerCounters& counters_;
  Channel monitor_;
  std::unordered_map<int, Connection> connections_;  // by descriptor
  std::int64_t next_scan_us_ = 0;
};

}  // namespace splitee::transport
