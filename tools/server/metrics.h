// The server's numbers over HTTP: Prometheus text (version 0.0.4) at /metrics, "ok" at /healthz for
// as long as the server takes work (503 while it drains), and at /livez until its end.
// Thread rule: start() and the destructor in one thread; the pages are served by a thread of its
// own. Ownership: borrows the counters, which must outlive it.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "base/status.h"
#include "transport/server/server.h"

namespace splitee::tools {

// The page at /metrics.
std::string metrics_text(const transport::ServerCounters& counters, bool draining);

class MetricsServer {
 public:
  // `endpoint` is HOST:PORT, an IPv6 host in brackets; port 0 takes a free one. Fails if it is
  // malformed or cannot be bound, or where libmicrohttpd is missing, now or when this was built.
  static Result<std::unique_ptr<MetricsServer>> start(const std::string& endpoint,
                                                      const transport::ServerCounters& counters);
  ~MetricsServer();

  // Address really bound, as a URL.
  const std::string& url() const;
  // From now on /healthz answers 503: the server is draining. Safe in a signal handler.
  void set_draining() noexcept;

 private:
  MetricsServer();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace splitee::tools
