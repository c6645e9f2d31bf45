// Server side of the link: a ROUTER socket, a bounded queue and worker threads with an Engine
// each over one shared Model.
//
// Thread rule: create(), run() and the destructor by one thread at a time; stop() and counters()
// from anywhere, stop() also from a signal handler.
// Errors: create() fails on what the operator can mend (endpoint, keys). Nothing that a peer sends
// is an error: it is answered, refused or dropped, and counted.
// Memory: requests that wait are bounded in number and bytes, in all and per edge, sessions and
// connections in number, frames by the model's longest sample, unread answers per peer. A message
// of endlessly many parts, which ZeroMQ collects without a bound, costs its sender the connection
// about a tenth of a second after it has grown too long (transport/connection_guard.h); strangers
// are better kept out with CURVE.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/model.h"
#include "runtime/status.h"
#include "transport/backend.h"
#include "transport/counters.h"

namespace splitee::transport {

struct CurveServerKeys {
  std::string public_key, secret_key;        // Z85, 40 characters
  std::vector<std::string> authorized_keys;  // Z85 public keys of the edges let in (ZAP)
};

struct ServerOptions {
  // Whether others than this machine may reach it is the caller's to decide
  // (is_loopback_endpoint()).
  std::string endpoint = "tcp://127.0.0.1:5555";
  std::size_t threads = 1;  // workers
  // Most requests of one layer and similar length that a worker runs together, and most rows of
  // them together.
  std::size_t max_batch = 8;
  std::size_t max_batch_rows = 512;
  std::size_t max_queue = 256;  // requests waiting; beyond it a request is refused as busy
  std::size_t max_queue_bytes = std::size_t{64} << 20;
  std::size_t max_edge_bytes = std::size_t{16} << 20;  // of one edge in the queue
  std::size_t max_sessions = 4'096;     // beyond it the one idle longest must say hello again
  std::size_t max_connections = 8'192;  // beyond it new ones are cut at once
  std::uint32_t max_window = 16;        // requests of one edge in flight
  // A connection whose handshake takes longer is cut. With CURVE it takes three round trips.
  std::uint32_t handshake_ms = 2'400;
  std::optional<CurveServerKeys> curve;
};

class Server {
 public:
  // Binds; fails with the endpoint and the reason (in use, malformed, not permitted).
  static runtime::Result<std::unique_ptr<Server>> create(
      std::shared_ptr<const runtime::Model> model, const ServerOptions& options);
  // The same over another backend; `factory` is called once per worker.
  static runtime::Result<std::unique_ptr<Server>> create(const ModelShape& shape,
                                                         const BackendFactory& factory,
                                                         const ServerOptions& options);
  // Gives answers on their way half a second to leave.
  ~Server();
  // Address really bound (a wildcard port resolved).
  const std::string& endpoint() const;
  // Serves this model to greetings and requests that come from now on; those accepted are finished
  // on the model before. Edges with the old file are refused with both hashes. Fails, and changes
  // nothing, where the model does not fit the protocol or has longer samples than the one that the
  // server was created with (ZeroMQ's frame limit stays). From any thread.
  runtime::Status replace_model(std::shared_ptr<const runtime::Model> model);
  runtime::Status replace_model(const ModelShape& shape, const BackendFactory& factory);
  // For the metrics: a model could not be loaded at all.
  void count_failed_reload();
  // Serves until stop(); then refuses new edges and requests as shutting down, answers those
  // accepted, and returns. Once per server.
  void run();
  void stop() noexcept;
  const ServerCounters& counters() const;

 private:
  Server();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace splitee::transport
