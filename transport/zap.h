// Decides which CURVE keys may connect: a ZAP handler (ZeroMQ RFC 27) with an allow-list. Without
// one, CURVE encrypts but lets every client in.
// Thread rule: the handler runs a thread of its own; create and destroy it beside the context.
// Errors: the constructor throws zmq::error_t or std::system_error.
#pragma once

#include <atomic>
#include <cstdint>
#include <set>
#include <string>
#include <thread>

#include <zmq.hpp>

#include "transport/event.h"

namespace splitee::transport {

inline constexpr char kZapDomain[] = "splitee";

class ZapHandler {
 public:
  // Must exist before the first socket of `context` that uses CURVE is bound. `allowed` are
  // 32-byte keys; `denied` counts refused handshakes.
  ZapHandler(zmq::context_t& context, std::set<std::string> allowed,
             std::atomic<std::uint64_t>& denied);
  ZapHandler(const ZapHandler&) = delete;
  ZapHandler& operator=(const ZapHandler&) = delete;
  ~ZapHandler();

 private:
  void serve();
  void answer();

  zmq::socket_t socket_;  // given to the thread at the start, back at its end
  const std::set<std::string> allowed_;
  std::atomic<std::uint64_t>& denied_;
  Event stop_;
  std::thread thread_;
};

}  // namespace splitee::transport
