#include "transport/zmq/monitor.h"

#include <atomic>
#include <cstring>
#include <string>

namespace splitee::transport {

Monitor::Monitor(zmq::context_t& context, zmq::socket_t& watched, int events) {
  static std::atomic<std::uint64_t> number{0};
  const std::string address = "inproc://monitor-" + std::to_string(number++);
  if (zmq_socket_monitor(watched.handle(), address.c_str(), events) != 0) throw zmq::error_t();
  zmq::socket_t socket(context, zmq::socket_type::pair);
  // Nothing waits for a reader that is gone.
  socket.set(zmq::sockopt::linger, 0);
  socket.connect(address);
  channel_ = Channel(std::move(socket));
}

std::optional<MonitorEvent> Monitor::next() {
  while (channel_.receive(received_)) {
    const std::span<const std::byte> bytes = bytes_of(received_.parts.front());
    MonitorEvent event;
    if (bytes.size() != sizeof event.event + sizeof event.value) continue;
    std::memcpy(&event.event, bytes.data(), sizeof event.event);
    std::memcpy(&event.value, bytes.data() + sizeof event.event, sizeof event.value);
    return event;
  }
  return std::nullopt;
}

void stop_monitor(zmq::socket_t& watched) {
  zmq_socket_monitor(watched.handle(), nullptr, 0);
}

}  // namespace splitee::transport
