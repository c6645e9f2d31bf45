#include "transport/zmq/resolver.h"

#include <mutex>
#include <optional>
#include <thread>

#include <netdb.h>
#include <signal.h>
#include <sys/socket.h>

namespace splitee::transport {
namespace {

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using AddressList = std::unique_ptr<addrinfo, FreeAddresses>;

int look_up(const TcpEndpoint& endpoint, int flags, AddressList& list) {
  addrinfo hints{};
  addrinfo* found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  const int problem = ::getaddrinfo(endpoint.host.c_str(), endpoint.port.c_str(), &hints, &found);
  if (problem == 0) list.reset(found);
  return problem;
}

// No signal that the program waits for is to end in a thread that waits for a name server.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

struct Resolver::Task {
  std::mutex mutex;
  std::unique_ptr<Addresses> result;
};

bool is_numeric_endpoint(const std::string& endpoint) {
  const std::optional<TcpEndpoint> tcp = split_tcp(endpoint);
  AddressList list;
  return !tcp || look_up(*tcp, AI_NUMERICHOST, list) == 0;
}

Addresses resolve_now(const TcpEndpoint& endpoint) {
  AddressList list;
  if (const int problem = look_up(endpoint, 0, list); problem != 0) {
    return Status{Code::kNotFound,
                  "cannot resolve " + endpoint.host + ": " + ::gai_strerror(problem)};
  }
  std::vector<std::string> endpoints;
  for (const addrinfo* address = list.get(); address != nullptr; address = address->ai_next) {
    char host[NI_MAXHOST];
    if (::getnameinfo(address->ai_addr, address->ai_addrlen, host, sizeof host, nullptr, 0,
                      NI_NUMERICHOST) != 0) {
      continue;
    }
    endpoints.push_back(tcp_endpoint(host, endpoint.port));
  }
  if (endpoints.empty()) return Status{Code::kNotFound, endpoint.host + " has no address"};
  return endpoints;
}

Resolver::Resolver(Lookup lookup)
    : lookup_(std::move(lookup)), shared_(std::make_shared<Shared>()) {}

void Resolver::start(const std::string& endpoint) {
  auto task = std::make_shared<Task>();
  tasks_[endpoint] = task;
  const auto run = [task, shared = shared_, lookup = lookup_, tcp = *split_tcp(endpoint)] {
    std::unique_ptr<Addresses> result;
    try {
      result = std::make_unique<Addresses>(lookup(tcp));
    } catch (const std::exception&) {
      // The next attempt may have better luck: poll() sees that nothing came of it.
    }
    {
      const std::lock_guard lock(task->mutex);
      task->result = result ? std::move(result)
                            : std::make_unique<Addresses>(Status{Code::kIo, "out of memory"});
    }
    shared->done.signal();
  };
  const BlockedSignals blocked;
  std::thread(run).detach();
}

std::unique_ptr<Addresses> Resolver::poll(const std::string& endpoint) {
  shared_->done.clear();
  auto it = tasks_.find(endpoint);
  if (it == tasks_.end()) {
    try {
      start(endpoint);
    } catch (const std::exception& error) {
      tasks_.erase(endpoint);
      return std::make_unique<Addresses>(
          Status{Code::kIo, std::string("cannot look the name up: ") + error.what()});
    }
    return nullptr;
  }
  std::unique_ptr<Addresses> result;
  {
    const std::lock_guard lock(it->second->mutex);
    result = std::move(it->second->result);
  }
  if (result) tasks_.erase(it);
  return result;
}

}  // namespace splitee::transport
