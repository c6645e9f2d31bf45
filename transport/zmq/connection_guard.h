// Bounds what ZeroMQ itself does not: the connections of a listening socket and of a key, the bytes
// of messages that are not complete or not read yet, and what is left behind by connections that
// ZeroMQ never reads from. ZeroMQ collects all parts of a message before it hands over the first,
// without a limit; it accepts connections until the process has no descriptors left; and it keeps
// what came over a connection whose routing id was in use, also after the connection has ended
// (libzmq issue 4503).
//
// Connections are learned from the socket's monitor; one too many is shut down as soon as it is
// seen. For each TCP connection the kernel says how many bytes it has received. It is shut down
// where, twice in a row,
//   more than the longest legal message has come since the last whole one (before the first one,
//   which is a hello, more than kFirstBytes),
//   more waits to be read than an edge that keeps to its window can have sent, or
//   all connections together have sent more than max_unfinished_bytes since their last whole
//   messages, and it has sent the most;
// and where it has not sent a whole message within silent_us.
// Between two looks a peer can still send as fast as the link is, and many small parts take up to
// kWorstGrowth times the memory of their bytes. Connections that are not TCP are counted only.
// What is left behind cannot be freed but with the socket: see left_something(). So it is with
// connections that have ended, and that ZeroMQ does not close: it stops reading from one whose
// message cannot be deciphered where telling the monitor of it leaves another errno behind
// (seen with libzmq 4.3.4; curve_mechanism_base_t::decode() of 06bdebf shows why); see stuck().
// Thread rule: the thread of the socket. Errors: the constructor throws zmq::error_t.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include <zmq.hpp>

#include "transport/counters.h"
#include "transport/zmq/key_book.h"
#include "transport/zmq/monitor.h"
#include "transport/zmq/socket.h"

namespace splitee::transport {

class ConnectionGuard {
 public:
  static constexpr std::int64_t kScanUs = 50'000;
  // While messages are unfinished.
  static constexpr std::int64_t kCloseScanUs = 10'000;
  // A part of no bytes is two on the wire and 64 in memory.
  static constexpr std::uint64_t kWorstGrowth = 32;
  // Handshake and hello are less than a kilobyte.
  static constexpr std::uint64_t kFirstBytes = 64 << 10;
  // A connection is closed as soon as it has ended, unless the machine is very busy.
  static constexpr std::int64_t kStuckUs = 5'000'000;

  struct Limits {
    std::size_t max_connections = 0;
    std::uint64_t max_message_bytes = 0;     // on the wire, framing included
    std::uint64_t max_unfinished_bytes = 0;  // the same, of all connections
    std::uint64_t max_unread_bytes = 0;      // of one connection
    std::uint64_t framing_bytes = 0;         // of each part of a message, at least
    std::int64_t silent_us = 0;
  };

  // Watches `socket`, which is not bound yet and outlives the guard, as `book` does.
  ConnectionGuard(zmq::context_t& context, zmq::socket_t& socket, const Limits& limits,
                  KeyBook& book, ServerCounters& counters);
  ConnectionGuard(const ConnectionGuard&) = delete;
  ConnectionGuard& operator=(const ConnectionGuard&) = delete;
  ~ConnectionGuard();

  // Pending when connections have come or gone.
  Channel& channel() { return monitor_.channel(); }
  // Takes in what has come and gone; whether there was anything.
  bool update(std::int64_t now_us);
  // A whole message has been read, after an update(): its connection must be known by then. `user`
  // is the connection's key, empty without keys.
  void delivered(Received& message, const char* user);
  // Whether the last reading left no message behind.
  void drained(bool all_read) { drained_ = all_read; }
  // Looks at the bytes received, where it is time. Call it after all messages were read.
  void scan(std::int64_t now_us);
  // When scan() next has something to do; negative where there is no connection.
  std::int64_t next_scan_us() const { return connections_.empty() ? -1 : next_scan_us_; }

  // Whether connections have ended that had shaken hands and were never read from: they may have
  // left something behind.
  bool left_something() const { return handshakes_ > spoke_ + silent_; }
  // Connections that ended kStuckUs ago or more and are not closed, at the last look. They take a
  // descriptor each, and a place of their key.
  std::size_t stuck() const { return stuck_; }
  // On the wire, since the last whole messages, at the last look.
  std::uint64_t unfinished_bytes() const { return unfinished_bytes_; }
  // The reasons for which handshakes have failed since the last call.
  std::vector<std::string> take_failures();

 private:
  struct Connection {
    std::uint64_t cookie = 0;   // of the kernel's socket: descriptors are used again
    std::int64_t since_us = 0;  // accepted
    bool speaks = false;        // has sent a whole message
    std::string user;
    std::uint64_t whole_bytes = 0;  // received when the last whole message was seen
    bool delivered = false;         // one came since the last look
    std::uint64_t seen_bytes = 0;   // received at the last look
    std::uint64_t read_bytes = 0;   // since then
    std::uint64_t unread_bytes = 0;
    std::int64_t ended_us = 0;  // seen to have ended; 0: has not
    bool suspect = false;       // over a limit at the last look
    bool cut = false;

    std::uint64_t unfinished_bytes() const { return seen_bytes - whole_bytes; }
  };
  using Connections = std::unordered_map<int, Connection>;  // by descriptor
  void accepted(int descriptor, std::int64_t now_us);
  void ended(int descriptor);
  void handshake_failed(const MonitorEvent& event);
  // Counts the bytes that have come since the last look.
  void look(Connection& connection, std::uint64_t bytes);
  // The counter of the limit that it is over; null where it is over none.
  std::atomic<std::uint64_t>* over_limit(const Connection& connection, std::int64_t now_us) const;
  void cut(int descriptor, Connection& connection, std::atomic<std::uint64_t>& reason);
  void cut_largest(std::uint64_t unfinished_bytes);

  zmq::socket_t& socket_;
  const Limits limits_;
  KeyBook& book_;
  ServerCounters& counters_;
  Monitor monitor_;
  Connections connections_;
  std::vector<std::string> failures_;
  std::int64_t next_scan_us_ = 0;
  bool drained_ = true;
  std::size_t stuck_ = 0;
  std::uint64_t unfinished_bytes_ = 0;
  bool too_much_ = false;  // of them, at the last look
  // Handshakes that succeeded, connections that have sent a message, and those open that have not.
  std::uint64_t handshakes_ = 0, spoke_ = 0, silent_ = 0;
};

}  // namespace splitee::transport
