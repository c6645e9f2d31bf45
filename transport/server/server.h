// Server side of the link: a ROUTER socket, a bounded queue and worker threads with an Engine
// each over one shared Model.
//
// Thread rule: create(), run() and the destructor by one thread at a time; stop() and counters()
// from anywhere, stop() also from a signal handler.
// Errors: create() fails on what the operator can mend (endpoint, keys). Nothing that a peer sends
// is an error: it is answered, refused or dropped, and counted.
// Memory: requests that wait are bounded in number and bytes, in all and per edge, sessions and
// connections in number, connections also per key, frames by the model's longest sample, unread
// answers per peer, and messages that are not complete in bytes of one connection and of all: who
// goes beyond is cut within a tenth of a second (transport/zmq/connection_guard.h). Without keys a
// peer can also make ZeroMQ keep what it never reads; where that has come to kLeftBytes, the socket
// is replaced by a fresh one, and every edge connects anew.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/network.h"
#include "transport/counters.h"
#include "transport/server/backend.h"
#include "transport/server/server_options.h"

namespace splitee::transport {

class Server {
 public:
  // Binds; fails with the endpoint and the reason (in use, malformed, not permitted).
  static Result<std::unique_ptr<Server>> create(std::shared_ptr<const runtime::Network> network,
                                                const ServerOptions& options);
  // The same over another backend; `factory` is called once per worker.
  static Result<std::unique_ptr<Server>> create(const ModelShape& shape,
                                                const BackendFactory& factory,
                                                const ServerOptions& options);
  // Gives answers on their way half a second to leave.
  ~Server();
  // The first address really bound (a wildcard port resolved).
  const std::string& endpoint() const;
  // All of them: a name may have several.
  const std::vector<std::string>& endpoints() const;
  // Serves this model to greetings and requests that come from now on; those accepted are finished
  // on the model before. Edges with the old file are refused with both hashes. Fails, and changes
  // nothing, where the model does not fit the protocol or has longer samples than the one that the
  // server was created with (ZeroMQ's frame limit stays). From any thread.
  Status replace_model(std::shared_ptr<const runtime::Network> network);
  Status replace_model(const ModelShape& shape, const BackendFactory& factory);
  // For the metrics: a model could not be loaded at all.
  void count_failed_reload();
  // Serves until stop(); then refuses new edges and requests as shutting down, answers those
  // accepted as far as drain_ms allows, and returns. Once per server.
  void run();
  void stop() noexcept;
  const ServerCounters& counters() const;

 private:
  Server();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace splitee::transport
