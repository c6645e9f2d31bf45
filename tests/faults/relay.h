// TCP relay with faults: one listening port, one target; each connection has a shaper per
// direction. Thread rule: one thread, which calls run_until(). Errors: start() says why it cannot
// listen; connections that fail are closed.
#pragma once

#include <array>
#include <cstdint>
#include <list>
#include <string>

#include "base/status.h"
#include "tests/faults/settings.h"
#include "tests/faults/shaper.h"

namespace splitee::faults {

// Microseconds of the monotonic clock.
std::int64_t now_us();

struct RelayStats {
  std::uint64_t connections = 0, failed_connects = 0, closed = 0, reset = 0;
  std::uint64_t bytes_up = 0, bytes_down = 0, corrupted = 0;
};

class Relay {
 public:
  explicit Relay(std::uint64_t seed) : seed_(seed) {}
  ~Relay();
  Relay(const Relay&) = delete;

  // Both are HOST:PORT with a numeric IPv4 host; port 0 listens on any.
  Status start(const std::string& listen, const std::string& target);
  std::uint16_t port() const { return port_; }

  // Relays until that time, or until `other_fd` (-1: none) is readable, or a signal came.
  enum class Wake { kTime, kInput, kSignal };
  Wake run_until(std::int64_t until_us, int other_fd);

  Status change(std::string_view settings);
  void pass() { faults_ = {}; }
  // Ends every connection now; what is on the way is lost.
  void end_all(End end);
  // Whether new connections are closed at once.
  void refuse(bool on) { refusing_ = on; }

  std::size_t open_connections() const { return connections_.size(); }
  RelayStats stats() const;

 private:
  struct Side {
    int fd = -1;
    bool can_read = false, can_write = false;  // until the kernel says no
    bool ended = false;                        // its end was read
    bool end_sent = false;                     // the other side's end was passed on
  };
  struct Connection {
    std::array<Side, 2> side;    // client, server
    std::array<Shaper, 2> from;  // what that side sent
    bool connecting = true;
    bool over = false;
    Connection(const LinkFaults& faults, std::uint64_t seed)
        : from{Shaper(faults.up, seed), Shaper(faults.down, seed + 1)} {}
  };

  void accept_all();
  bool connect_target(Connection& connection);
  void step(Connection& connection, std::int64_t now);
  void read_side(Connection& connection, std::size_t side, std::int64_t now);
  void write_side(Connection& connection, std::size_t side);
  void pass_end(Connection& connection, std::size_t side);
  bool has_work(const Connection& connection, std::size_t side) const;
  void close(Connection& connection, End end);
  void remove_finished();
  std::int64_t step_all();
  Wake wait(std::int64_t until_us);

  std::uint64_t seed_;
  LinkFaults faults_;
  bool refusing_ = false;
  int epoll_fd_ = -1, listen_fd_ = -1, timer_fd_ = -1;
  char other_fd_ = 0;  // its address marks events of run_until()'s other_fd
  std::uint16_t port_ = 0;
  std::array<std::uint8_t, 16> target_{};  // sockaddr_in
  std::list<Connection> connections_;
  RelayStats stats_;
};

}  // namespace splitee::faults
