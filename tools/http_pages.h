// A small HTTP/1 server of status pages: GET and HEAD, one answer per connection, then it closes.
// One thread serves all connections, none of which it waits for: each has kPatience from its
// first byte to its last, kMaxRequestBytes for its request, and there are kMaxConnections of them;
// one more takes the place of the oldest. So a client that sends slowly, or never reads, keeps
// nobody else from an answer.
// Thread rule: start() and the destructor in one thread; the handler is called in the server's own.
// Ownership: what the handler refers to must outlive the server.
// Errors: start() fails on an address that cannot be bound, with the reason. A bad request gets
// 400, an unknown page 404, another method 405, a request too long 431.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/status.h"

namespace splitee::tools {

struct HttpPage {
  int status = 200;
  std::string content_type;
  std::string body;
};

// The page at a path (without its query), or nothing where there is none.
using HttpHandler = std::function<std::optional<HttpPage>(std::string_view path)>;

class HttpPages {
 public:
  static constexpr std::size_t kMaxConnections = 32;
  static constexpr std::size_t kMaxRequestBytes = 8192;
  static constexpr std::chrono::seconds kPatience{5};

  // `host`: an address or a name, IPv6 without brackets; port 0 takes a free one.
  static runtime::Result<std::unique_ptr<HttpPages>> start(const std::string& host, int port,
                                                           HttpHandler handler);
  // Ends at once, connections included.
  ~HttpPages();
  // Really bound.
  int port() const;

 private:
  HttpPages();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The bytes to answer a request with; nothing while it is not complete. `request` is all that has
// come so far, at most HttpPages::kMaxRequestBytes.
std::optional<std::string> http_answer(std::string_view request, const HttpHandler& handler);

}  // namespace splitee::tools
