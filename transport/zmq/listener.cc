#include "transport/zmq/listener.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "transport/zmq/endpoint.h"

namespace splitee::transport {
namespace {

constexpr int kPortTries = 16;

}  // namespace

struct Listener::Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  int family() const { return storage.ss_family; }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

namespace {

using Address = Listener::Address;

Address to_address(const sockaddr* from, socklen_t size) {
  Address address;
  std::memcpy(&address.storage, from, size);
  address.size = size;
  return address;
}

in_port_t* port_of(Address& address) {
  if (address.family() == AF_INET6) {
    return &reinterpret_cast<sockaddr_in6*>(&address.storage)->sin6_port;
  }
  return &reinterpret_cast<sockaddr_in*>(&address.storage)->sin_port;
}

struct FreeList {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
  void operator()(ifaddrs* list) const { ::freeifaddrs(list); }
};

std::vector<Address> addresses_of_interface(const std::string& name) {
  ifaddrs* found = nullptr;
  std::vector<Address> addresses;
  if (if_nametoindex(name.c_str()) == 0 || getifaddrs(&found) != 0) return addresses;
  const std::unique_ptr<ifaddrs, FreeList> list(found);
  for (const ifaddrs* entry = found; entry != nullptr; entry = entry->ifa_next) {
    if (name != entry->ifa_name || entry->ifa_addr == nullptr) continue;
    const int family = entry->ifa_addr->sa_family;
    if (family == AF_INET) addresses.push_back(to_address(entry->ifa_addr, sizeof(sockaddr_in)));
    if (family == AF_INET6) addresses.push_back(to_address(entry->ifa_addr, sizeof(sockaddr_in6)));
  }
  return addresses;
}

Result<std::vector<Address>> addresses_of(const std::string& host) {
  std::vector<Address> addresses = addresses_of_interface(host);
  if (!addresses.empty()) return addresses;
  addrinfo hints{};
  addrinfo* found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  const char* const name = host == "*" ? nullptr : host.c_str();
  if (const int problem = ::getaddrinfo(name, "0", &hints, &found); problem != 0) {
    return Status{Code::kIo, host + ": " + ::gai_strerror(problem)};
  }
  const std::unique_ptr<addrinfo, FreeList> list(found);
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    addresses.push_back(to_address(entry->ai_addr, entry->ai_addrlen));
  }
  return addresses;
}

// -1 with errno, where it cannot be had.
int listen_on(const Address& address, int backlog) {
  const int fd = socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  // IPv4 has a socket of its own, whatever the system's setting is.
  if (address.family() == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (bind(fd, address.get(), address.size) == 0 && listen(fd, backlog) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

Address bound_address(int fd) {
  Address address;
  address.size = sizeof address.storage;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.size);
  return address;
}

std::string numeric(Address address) {
  char host[NI_MAXHOST] = "?";
  ::getnameinfo(address.get(), address.size, host, sizeof host, nullptr, 0, NI_NUMERICHOST);
  return tcp_endpoint(host, std::to_string(ntohs(*port_of(address))));
}

bool not_here(int error) {
  return error == EADDRNOTAVAIL || error == EAFNOSUPPORT;
}

std::string reason(int error) {
  return not_here(error) ? "no address of this machine" : std::strerror(error);
}

Status cannot_listen(const std::string& endpoint, const std::string& why) {
  return {Code::kIo, "cannot listen on " + endpoint + ": " + why};
}

std::optional<sockaddr_un> unix_address(const std::string& path, socklen_t& size) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return std::nullopt;
  std::memcpy(address.sun_path, path.data(), path.size());
  // The mark of a name without a file.
  if (path.front() == '@') address.sun_path[0] = '\0';
  size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() +
                                (path.front() == '@' ? 0 : 1));
  return address;
}

// Whether somebody accepts connections there, or might.
bool answers(const sockaddr_un& address, socklen_t size) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return true;
  const bool refused =
      connect(fd, reinterpret_cast<const sockaddr*>(&address), size) != 0 && errno == ECONNREFUSED;
  close(fd);
  return !refused;
}

}  // namespace

Listener::Listener(Listener&& other) noexcept {
  *this = std::move(other);
}

Listener& Listener::operator=(Listener&& other) noexcept {
  if (this == &other) return *this;
  close_all();
  sockets_ = std::exchange(other.sockets_, {});
  endpoints_ = std::exchange(other.endpoints_, {});
  file_ = std::exchange(other.file_, {});
  file_number_ = other.file_number_;
  file_device_ = other.file_device_;
  return *this;
}

Listener::~Listener() {
  close_all();
}

void Listener::close_all() {
  struct stat info;
  if (!file_.empty() && lstat(file_.c_str(), &info) == 0 && info.st_ino == file_number_ &&
      info.st_dev == file_device_) {
    unlink(file_.c_str());
  }
  for (const int fd : sockets_) close(fd);
  sockets_.clear();
  endpoints_.clear();
}

Result<Listener> Listener::open(const std::string& endpoint, int backlog) {
  Listener listener;
  const std::optional<std::string> path = ipc_path(endpoint);
  Status status =
      path ? listener.open_ipc(endpoint, *path, backlog) : listener.open_tcp(endpoint, backlog);
  if (!status.ok()) return status;
  return listener;
}

Status Listener::open_tcp(const std::string& endpoint, int backlog) {
  const std::optional<TcpEndpoint> tcp = split_tcp(endpoint);
  if (!tcp) return check_bind_endpoint(endpoint);
  Result<std::vector<Address>> addresses = addresses_of(tcp->host);
  if (!addresses.ok()) return cannot_listen(endpoint, addresses.status().message());
  const int wanted = tcp->port == "*" ? 0 : std::atoi(tcp->port.c_str());
  // A free port of one address may be taken on the next one.
  int tries = wanted == 0 ? kPortTries : 1;
  Status status;
  do {
    close_all();
    status = listen_on_all(*addresses, wanted, backlog);
  } while (!status.ok() && --tries > 0);
  if (!status.ok()) return status;
  if (sockets_.empty()) return cannot_listen(endpoint, reason(EADDRNOTAVAIL));
  return {};
}

// Leaves out what is not this machine's.
Status Listener::listen_on_all(std::vector<Address> addresses, int wanted, int backlog) {
  in_port_t port = htons(static_cast<std::uint16_t>(wanted));
  for (Address& address : addresses) {
    *port_of(address) = port;
    const int fd = listen_on(address, backlog);
    if (fd < 0 && not_here(errno)) continue;
    if (fd < 0) return cannot_listen(numeric(address), reason(errno));
    sockets_.push_back(fd);
    Address bound = bound_address(fd);
    port = *port_of(bound);
    endpoints_.push_back(numeric(bound));
  }
  return {};
}

Status Listener::open_ipc(const std::string& endpoint, const std::string& path, int backlog) {
  socklen_t size = 0;
  const std::optional<sockaddr_un> address = unix_address(path, size);
  if (!address) return cannot_listen(endpoint, "the path is too long");
  const bool in_files = path.front() != '@';
  struct stat info;
  if (in_files && lstat(path.c_str(), &info) == 0) {
    if (!S_ISSOCK(info.st_mode))
      return cannot_listen(endpoint, "there is a file that is no socket");
    if (answers(*address, size)) return cannot_listen(endpoint, "another server listens there");
    unlink(path.c_str());
  }
  Address to = to_address(reinterpret_cast<const sockaddr*>(&*address), size);
  const int fd = listen_on(to, backlog);
  if (fd < 0) return cannot_listen(endpoint, reason(errno));
  sockets_.push_back(fd);
  endpoints_.push_back(endpoint);
  if (in_files && lstat(path.c_str(), &info) == 0) {
    file_ = path;
    file_number_ = info.st_ino;
    file_device_ = info.st_dev;
  }
  return {};
}

void Listener::lend_to(zmq::socket_t& socket) const {
  for (std::size_t i = 0; i < sockets_.size(); ++i) {
    const int fd = fcntl(sockets_[i], F_DUPFD_CLOEXEC, 0);
    if (fd < 0) throw zmq::error_t();
    socket.set(zmq::sockopt::use_fd, fd);
    // ZeroMQ closes the descriptor, also where this fails later on.
    socket.bind(endpoints_[i]);
  }
}

}  // namespace splitee::transport
