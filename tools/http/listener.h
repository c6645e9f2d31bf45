// Listens for HTTP on the addresses of HOST:PORT, and keeps the slow and the many within bounds:
// bytes of headers, of one body and of all bodies, connections, and the time that a request may
// take to arrive and its answer to leave. One connection more than allowed takes the place of the
// oldest that does not wait for an answer of ours. Requests are refused whose headers others on the
// way may have read differently.
// Thread rule: start(), drain() and the destructor by one thread at a time. Requests are handled by
// a thread per address, which waits for nobody; answers may come from any thread. Errors: start()
// fails on a malformed address, one that cannot be bound, and where libmicrohttpd is not installed
// or this program was built without it. Nothing that a client does is an error.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "base/status.h"
#include "tools/http/exchange.h"

namespace splitee::tools {

struct HttpLimits {
  std::size_t connections = 1000;
  std::size_t connection_bytes = 16384;  // of the request line with its headers
  std::size_t body_bytes = std::size_t{2} << 20;
  std::size_t all_body_bytes = std::size_t{32} << 20;
  // For a request to arrive, from the last answer (or the connecting) on; and for an answer to
  // leave.
  std::chrono::seconds patience{30};
};

class HttpListener {
 public:
  // `flag` is the option that `endpoint` was given with, for messages. `endpoint` is HOST:PORT, an
  // IPv6 host in brackets; port 0 takes a free one. `handler` must outlive the listener.
  static Result<std::unique_ptr<HttpListener>> start(const std::string& flag,
                                                     const std::string& endpoint,
                                                     const HttpLimits& limits,
                                                     HttpHandler& handler);
  // Closes every connection.
  ~HttpListener();

  // Address really bound, as a URL without a path.
  const std::string& url() const;
  // Takes no more connections; waits at most `patience` for requests that have come whole to be
  // answered, answers the rest 503, and gives the answers a moment to leave.
  void drain(std::chrono::milliseconds patience);

 private:
  HttpListener();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace splitee::tools
