// Where a server meets the network: the sockets it listens on, the ROUTER that accepts from them,
// who may come in, and how much of memory strangers may take.
// Thread rule: one thread; the ZAP handler and ZeroMQ have theirs. Errors: open() throws
// zmq::error_t or std::system_error.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <zmq.hpp>

#include "transport/server/heap_watch.h"
#include "transport/server/notices.h"
#include "transport/server/server_options.h"
#include "transport/zmq/channel.h"
#include "transport/zmq/connection_guard.h"
#include "transport/zmq/key_book.h"
#include "transport/zmq/listener.h"
#include "transport/zmq/zap.h"

namespace splitee::transport {

class Front {
 public:
  // What ZeroMQ may keep of connections that it does not read, before the socket is replaced.
  static constexpr std::uint64_t kLeftBytes = 16 << 20;

  // `frame_limit`: the longest frame taken. The others outlive the front.
  Front(const ServerOptions& options, std::int64_t frame_limit, ServerCounters& counters,
        Notices& notices);
  // Ends with answers on their way given `flush_ms` to leave.
  void set_flush(int flush_ms) noexcept;

  // Listens, and accepts from now on.
  void open(Listener listener);
  const std::vector<std::string>& endpoints() const { return listener_.endpoints(); }

  // The channel to wait for messages on, and the one that tells of connections.
  Channel& messages() { return *channel_; }
  Channel& connections() { return guard_->channel(); }
  // False where no whole message waits.
  bool receive(Received& message);
  // Whose key the connection of a message has; empty without keys.
  static const char* user_of(Received& message);
  bool send(std::span<const std::byte> peer, Frames frames) {
    return channel_->send(peer, std::move(frames));
  }
  // Takes in connections that have come and gone, and looks after the bytes that strangers send,
  // where it is time. `accounted_bytes`: of requests that the server holds.
  void look_after(std::int64_t now_us, std::uint64_t accounted_bytes);
  // When look_after() next has something to do by itself; negative where there is no connection.
  std::int64_t next_look_us() const;
  // The memory that is there now is the server's own.
  void rebase() { heap_.rebase(); }

 private:
  void open_socket();
  void secure(zmq::socket_t& socket);
  ConnectionGuard::Limits limits() const;
  void update_connections(std::int64_t now_us);
  bool trim_due() const;
  void check_heap(std::int64_t now_us, std::uint64_t accounted_bytes);
  void renew(const char* why, std::int64_t now_us);

  const ServerOptions& options_;
  const std::int64_t frame_limit_;
  ServerCounters& counters_;
  Notices& notices_;
  KeyBook book_;
  zmq::context_t context_{1};
  std::optional<ZapHandler> zap_;
  Listener listener_;
  std::unique_ptr<Channel> channel_;
  std::unique_ptr<ConnectionGuard> guard_;  // goes before what it watches
  HeapWatch heap_;
  std::int64_t next_check_us_ = 0;
  bool check_due_ = false;       // connections have come or gone
  std::int64_t changed_us_ = 0;  // when connections last came or went, or much was unfinished
  std::int64_t trimmed_us_ = 0;  // or put off
  std::int64_t renewed_us_ = 0;  // 0: not, or what was kept is freed
};

}  // namespace splitee::transport
