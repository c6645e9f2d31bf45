// Server side of the link: a ROUTER socket, a bounded queue and worker threads with an Engine
// each over one shared Model.
// Thread rule: create(), run() and the destructor in one thread; stop() from anywhere, including
// a signal handler.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/model.h"
#include "runtime/status.h"

namespace splitee::transport {

struct CurveServerKeys {
  std::string public_key, secret_key;        // Z85, 40 characters
  std::vector<std::string> authorized_keys;  // Z85 public keys of the edges let in (ZAP)
};

struct ServerOptions {
  std::string endpoint = "tcp://127.0.0.1:5555";
  std::size_t threads = 1;  // workers
  std::size_t max_batch = 8;
  std::size_t max_queue = 64;  // requests waiting; beyond it a request is refused as busy
  std::optional<CurveServerKeys> curve;
};

struct ServerCounters {
  std::atomic<std::uint64_t> hellos{0}, requests{0}, replies{0}, refusals{0}, bad_frames{0},
      expired{0}, bytes_in{0}, bytes_out{0};
};

class Server {
 public:
  // Binds; fails with the endpoint and the reason (in use, malformed, not permitted).
  static runtime::Result<std::unique_ptr<Server>> create(
      std::shared_ptr<const runtime::Model> model, const ServerOptions& options);
  ~Server();
  // Address really bound (a wildcard port resolved).
  const std::string& endpoint() const;
  // Serves until stop(); then refuses new requests as shutting down, answers those accepted, and
  // returns.
  void run();
  void stop() noexcept;
  const ServerCounters& counters() const;

 private:
  Server();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace splitee::transport
