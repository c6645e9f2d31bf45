// Decides which CURVE keys may connect: a ZAP handler (ZeroMQ RFC 27) with an allow-list. Without
// one, CURVE encrypts but lets every client in.
// It also gives every connection that it lets in a routing id of its own, in place of what the
// client calls itself. ZeroMQ never reads from a connection whose routing id is in use, and keeps
// what came over it for ever (libzmq issue 4503).
// Thread rule: the handler runs a thread of its own; create and destroy it beside the context.
// Errors: the constructor throws zmq::error_t or std::system_error.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <zmq.hpp>

#include "transport/counters.h"
#include "transport/zmq/event.h"
#include "transport/zmq/key_book.h"

namespace splitee::transport {

inline constexpr char kZapDomain[] = "splitee";

class ZapHandler {
 public:
  struct Rules {
    std::set<std::string> allowed;  // 32-byte keys
    KeyBook* book = nullptr;        // places per key, by its Z85 text; outlives the handler
    // Told of refused keys, in the handler's thread; may be empty.
    std::function<void(const std::string&)> notice;
  };
  // Must exist before the first socket of `context` that uses CURVE is bound.
  ZapHandler(zmq::context_t& context, Rules rules, ServerCounters& counters);
  ZapHandler(const ZapHandler&) = delete;
  ZapHandler& operator=(const ZapHandler&) = delete;
  ~ZapHandler();

 private:
  struct Verdict;
  void serve();
  void answer_all();
  void answer(std::vector<std::string> request);
  Verdict judge(const std::vector<std::string>& request);

  zmq::socket_t socket_;  // given to the thread at the start, back at its end
  const Rules rules_;
  ServerCounters& counters_;
  Event stop_;
  std::thread thread_;
};

}  // namespace splitee::transport
