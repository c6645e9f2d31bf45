// The sockets that a server listens on, opened here and lent to ZeroMQ: every address that a name
// has, and nothing that belongs to somebody else. They outlive the ZeroMQ socket that accepts from
// them, so that another can take over without a gap.
// Thread rule: one thread at a time. Errors: open() names the endpoint and the reason.
#pragma once

#include <string>
#include <vector>

#include <zmq.hpp>

#include "base/status.h"

namespace splitee::transport {

class Listener {
 public:
  struct Address;

  // tcp://HOST:PORT: HOST is an address, a name (all its addresses), an interface, or * for all;
  // PORT 0 or * takes a free one, the same for all addresses. An address that this machine does not
  // have is left out as long as another one is left.
  // ipc://PATH: a socket file that nobody listens on is replaced; any other file, and a socket that
  // answers, are refused. A PATH that begins with @ is a name without a file.
  static Result<Listener> open(const std::string& endpoint, int backlog);

  Listener() = default;
  Listener(Listener&& other) noexcept;
  Listener& operator=(Listener&& other) noexcept;
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  // Closes them, and takes away the socket file, if it is still the one made here.
  ~Listener();

  // As bound: numeric, with the port.
  const std::vector<std::string>& endpoints() const { return endpoints_; }
  // Lets `socket` accept connections from now on. Throws zmq::error_t.
  void lend_to(zmq::socket_t& socket) const;

 private:
  Status open_tcp(const std::string& endpoint, int backlog);
  Status listen_on_all(std::vector<Address> addresses, int wanted, int backlog);
  Status open_ipc(const std::string& endpoint, const std::string& path, int backlog);
  void close_all();

  std::vector<int> sockets_;
  std::vector<std::string> endpoints_;
  std::string file_;  // of an ipc endpoint
  unsigned long long file_number_ = 0, file_device_ = 0;
};

}  // namespace splitee::transport
