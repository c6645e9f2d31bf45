// What ZeroMQ tells about a socket's connections: made, lost, and why a handshake failed.
// Thread rule: the thread of the watched socket. Errors: the constructor throws zmq::error_t.
#pragma once

#include <cstdint>
#include <optional>

#include <zmq.hpp>

#include "transport/zmq/channel.h"
#include "transport/zmq/socket.h"

namespace splitee::transport {

struct MonitorEvent {
  std::uint16_t event = 0;  // one of ZMQ_EVENT_*
  std::uint32_t value = 0;  // a descriptor, an errno, a protocol error or a status code
};

class Monitor {
 public:
  Monitor() = default;
  // Reports `events` (a mask) of `watched` from now on, in place of a monitor that it has. Where
  // none may be missed, before it is bound or connected.
  Monitor(zmq::context_t& context, zmq::socket_t& watched, int events);

  // Pending when there may be an event.
  Channel& channel() { return channel_; }
  // The next event; nothing where none waits.
  std::optional<MonitorEvent> next();

 private:
  Channel channel_;
  Received received_;
};

// Must come before the Monitor goes: ZeroMQ's own thread would wait for ever to tell it of one more
// event, and with it every connection would stand still.
void stop_monitor(zmq::socket_t& watched);

}  // namespace splitee::transport
