// Brings one connection to a server into being: looks its name up where it has one, tries every
// address in turn (the next one when one fails, or kStaggerUs later, as RFC 8305 does), and hands
// over the first whose handshake succeeds. What goes wrong is kept in words.
// Thread rule: one thread. Errors: step() throws zmq::error_t or std::bad_alloc where the system
// gives no socket.
// Times are microseconds of one monotonic clock.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <zmq.hpp>

#include "transport/client/client_options.h"
#include "transport/zmq/channel.h"
#include "transport/zmq/monitor.h"
#include "transport/zmq/resolver.h"

namespace splitee::transport {

// A DEALER and what tells of its connection.
struct Connection {
  Connection(zmq::context_t& context, const ClientOptions& options, std::random_device& random);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  // After the handshake: from now on only the connection's end is told. Told of more, ZeroMQ
  // (4.3.4) mistakes a message that cannot be deciphered for one that there is no room for, stops
  // reading, and ends the process by its next heartbeat once the peer goes (libzmq issue 4364).
  // False where the end has come already.
  bool watch_for_end(zmq::context_t& context);

  Channel channel;
  Monitor monitor;
};

class Connector {
 public:
  static constexpr std::int64_t kStaggerUs = 250'000;
  // At once; further addresses wait for one of these to fail. About four descriptors each.
  static constexpr std::size_t kMostAttempts = 4;

  // All outlive the connector.
  Connector(zmq::context_t& context, const ClientOptions& options, std::string endpoint,
            Resolver& resolver, std::random_device& random);

  // Moves on; the connection, once there is one. Nothing more is to be called then.
  std::unique_ptr<Connection> step(std::int64_t now_us);
  // Whether nothing is left to try.
  bool failed() const { return failed_; }
  // Whether trying again soon is of no use: keys that do not fit, a name that is not known.
  bool refused() const { return refused_; }
  // What has gone wrong, or what is waited for.
  std::string problem() const;
  // When step() has something to do that no channel tells of.
  std::int64_t next_event_us() const;
  void add_channels(std::vector<Channel*>& channels);

 private:
  struct Attempt {
    std::string address;
    std::unique_ptr<Connection> connection;
    bool connected = false;
  };
  void take_addresses();
  void start_next(std::int64_t now_us);
  // Whether the handshake has succeeded; takes note of a failure.
  enum class Progress { kNone, kDone, kFailed };
  Progress look_at(Attempt& attempt);
  void note(const Attempt& attempt, const MonitorEvent& event);

  zmq::context_t& context_;
  const ClientOptions& options_;
  const std::string endpoint_;
  Resolver& resolver_;
  std::random_device& random_;
  bool resolved_ = false;
  std::deque<std::string> addresses_;  // not tried yet
  std::list<Attempt> attempts_;
  std::int64_t next_start_us_ = 0;
  bool failed_ = false, refused_ = false;
  std::string problem_;
};

}  // namespace splitee::transport
