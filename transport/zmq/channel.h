// A socket that is waited for by its descriptor. zmq_poll() asks every socket for its state on each
// pass, at two system calls a socket; here a wait is one system call for all, and exact to the
// microsecond.
//
// ZeroMQ's descriptor tells only that something has happened since the socket was last looked at,
// and a call that sends may take that news away unseen. So a channel is pending from any of these
// until receive() has found nothing, and nobody sleeps while one is pending.
// Thread rule: a channel stays in one thread. Errors: the constructor throws zmq::error_t.
#pragma once

#include <cstdint>
#include <span>

#include <poll.h>
#include <zmq.hpp>

#include "transport/zmq/socket.h"

namespace splitee::transport {

class Channel {
 public:
  Channel() = default;
  explicit Channel(zmq::socket_t socket);

  // For options, connections and questions; what is received or sent goes through the channel.
  zmq::socket_t& socket() { return socket_; }
  // As the functions of transport/zmq/socket.h.
  bool receive(Received& received);
  bool send(std::span<const std::byte> routing_id, Frames frames);
  // Whether receive() may find something.
  bool pending() const { return pending_; }

 private:
  friend void wait(std::span<Channel* const>, std::span<pollfd>, std::int64_t);
  zmq::socket_t socket_;
  int fd_ = -1;
  bool pending_ = true;
};

// Waits until a channel is pending, one of `others` is ready (see its revents), or the time is over
// (timeout_us < 0: never). An interrupting signal ends the wait.
void wait(std::span<Channel* const> channels, std::span<pollfd> others, std::int64_t timeout_us);

}  // namespace splitee::transport
