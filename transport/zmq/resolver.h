// Names to addresses, without ever waiting for a name server. ZeroMQ looks names up in its I/O
// thread, where one name server that does not answer holds up every connection and the end of the
// process; so it is given numeric addresses only, and names are looked up here, each by a thread of
// its own that nobody waits for.
// Thread rule: a Resolver stays in one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "transport/zmq/endpoint.h"
#include "transport/zmq/event.h"

namespace splitee::transport {

// Endpoints with numeric addresses, in the order to be tried.
using Addresses = Result<std::vector<std::string>>;

// The endpoint itself, where nothing has to be looked up: ipc, or a numeric address.
bool is_numeric_endpoint(const std::string& endpoint);

// All addresses of the host, IPv6 and IPv4, by the system's resolver. Takes as long as that takes.
Addresses resolve_now(const TcpEndpoint& endpoint);

class Resolver {
 public:
  using Lookup = std::function<Addresses(const TcpEndpoint&)>;

  // `lookup` is called by other threads, and may take for ever.
  explicit Resolver(Lookup lookup = resolve_now);

  // What became of looking up a tcp endpoint; null while it goes on. The first call begins it, and
  // one that still goes on since an earlier attempt is not begun again. A result is given once:
  // the next call looks anew, since addresses change.
  std::unique_ptr<Addresses> poll(const std::string& endpoint);
  // Readable when a lookup has ended; poll() clears it.
  int fd() const { return shared_->done.fd(); }

 private:
  struct Shared {
    Event done;
  };
  struct Task;
  void start(const std::string& endpoint);

  Lookup lookup_;
  std::shared_ptr<Shared> shared_;  // with the threads, which may outlive the resolver
  std::map<std::string, std::shared_ptr<Task>> tasks_;
};

}  // namespace splitee::transport
