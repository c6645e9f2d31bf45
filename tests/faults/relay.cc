#include "tests/faults/relay.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <span>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

namespace splitee::faults {
namespace {

constexpr std::size_t kReadBytes = 64 << 10;
constexpr int kBacklog = 1'024;
constexpr std::int64_t kMicro = 1'000'000;
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

bool parse_address(const std::string& text, sockaddr_in& address) {
  const std::size_t colon = text.rfind(':');
  if (colon == text.npos) return false;
  address = {};
  address.sin_family = AF_INET;
  const int port = std::atoi(text.c_str() + colon + 1);
  if (port < 0 || port > 65'535) return false;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  return inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr) == 1;
}

Status system_error(const std::string& what) {
  return {Code::kIo, what + ": " + std::strerror(errno)};
}

int stream_socket() {
  return ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

// Pieces leave when the shaper says, not when the kernel has collected more.
void set_no_delay(int fd) {
  const int on = 1;
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace

std::int64_t now_us() {
  using namespace std::chrono;
  return duration_cast<microseconds>(steady_clock::now().time_since_epoch()).count();
}

Relay::~Relay() {
  end_all(End::kClose);
  for (const int fd : {listen_fd_, timer_fd_, epoll_fd_}) {
    if (fd >= 0) ::close(fd);
  }
}

Status Relay::start(const std::string& listen, const std::string& target) {
  sockaddr_in address, server;
  if (!parse_address(listen, address)) return {Code::kInvalidArgument, listen + ": no HOST:PORT"};
  if (!parse_address(target, server)) return {Code::kInvalidArgument, target + ": no HOST:PORT"};
  static_assert(sizeof server == sizeof target_);
  std::memcpy(target_.data(), &server, sizeof server);
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &files);
  }
  listen_fd_ = stream_socket();
  const int on = 1;
  (void)::setsockopt(listen_fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(listen_fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listen_fd_, kBacklog) != 0) {
    return system_error(listen);
  }
  socklen_t size = sizeof address;
  (void)::getsockname(listen_fd_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  epoll_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
  timer_fd_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  if (epoll_fd_ < 0 || timer_fd_ < 0) return system_error("epoll or timer");
  for (const int fd : {listen_fd_, timer_fd_}) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) return system_error("epoll");
  }
  return {};
}

Status Relay::change(std::string_view settings) {
  // Up to now the old settings hold.
  for (Connection& connection : connections_) {
    for (Shaper& shaper : connection.from) shaper.advance(now_us());
  }
  return apply_settings(settings, faults_);
}

void Relay::accept_all() {
  for (;;) {
    const int fd = ::accept4(listen_fd_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    set_no_delay(fd);
    ++stats_.connections;
    seed_ += 2;
    Connection& connection = connections_.emplace_back(faults_, seed_);
    connection.side[0].fd = fd;
    if (refusing_) {
      close(connection, End::kClose);
    } else if (!connect_target(connection)) {
      ++stats_.failed_connects;
      close(connection, End::kReset);
    }
  }
}

bool Relay::connect_target(Connection& connection) {
  const int fd = stream_socket();
  if (fd < 0) return false;
  connection.side[1].fd = fd;
  set_no_delay(fd);
  sockaddr_in server;
  std::memcpy(&server, target_.data(), sizeof server);
  const int result = ::connect(fd, reinterpret_cast<const sockaddr*>(&server), sizeof server);
  if (result != 0 && errno != EINPROGRESS) return false;
  for (Side& side : connection.side) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.ptr = &side;
    if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, side.fd, &event) != 0) return false;
  }
  return true;
}

void Relay::read_side(Connection& connection, std::size_t side, std::int64_t now) {
  Side& from = connection.side[side];
  Shaper& shaper = connection.from[side];
  while (from.can_read && !from.ended && shaper.wants_input()) {
    std::string bytes(kReadBytes, '\0');
    const ssize_t count = ::recv(from.fd, bytes.data(), bytes.size(), 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
      from.can_read = errno == EINTR;
      continue;
    }
    if (count <= 0) {
      from.ended = true;
      return shaper.push_end(count == 0 ? End::kClose : End::kReset);
    }
    bytes.resize(static_cast<std::size_t>(count));
    shaper.push(std::move(bytes), now);
  }
}

void Relay::write_side(Connection& connection, std::size_t side) {
  Side& to = connection.side[side];
  Shaper& shaper = connection.from[1 - side];
  while (to.can_write && !shaper.arrived().empty()) {
    const std::string_view bytes = shaper.arrived();
    const ssize_t count = ::send(to.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
      to.can_write = errno == EINTR;
      continue;
    }
    if (count < 0) return close(connection, End::kReset);
    (side == 1 ? stats_.bytes_up : stats_.bytes_down) += static_cast<std::uint64_t>(count);
    shaper.take(static_cast<std::size_t>(count));
  }
}

void Relay::pass_end(Connection& connection, std::size_t side) {
  Side& to = connection.side[side];
  const Side& from = connection.side[1 - side];
  const std::optional<End> end = connection.from[1 - side].ended();
  if (!end || to.end_sent) return;
  to.end_sent = true;
  // An end that the sender did not ask for is one of ours: it takes both directions.
  if (*end == End::kReset || !from.ended || from.end_sent) return close(connection, *end);
  (void)::shutdown(to.fd, SHUT_WR);
}

void Relay::step(Connection& connection, std::int64_t now) {
  if (connection.connecting && connection.side[1].can_write) {
    int error = 0;
    socklen_t size = sizeof error;
    (void)::getsockopt(connection.side[1].fd, SOL_SOCKET, SO_ERROR, &error, &size);
    connection.connecting = false;
    if (error != 0) {
      ++stats_.failed_connects;
      close(connection, End::kReset);
    }
  }
  if (connection.connecting) return;
  for (std::size_t side = 0; side < 2 && !connection.over; ++side) {
    read_side(connection, side, now);
    connection.from[side].advance(now);
  }
  for (std::size_t side = 0; side < 2 && !connection.over; ++side) {
    write_side(connection, side);
    if (!connection.over) pass_end(connection, side);
  }
}

// Input that was held back can be read now.
bool Relay::has_work(const Connection& connection, std::size_t side) const {
  const Side& from = connection.side[side];
  return !connection.connecting && from.can_read && !from.ended &&
         connection.from[side].wants_input();
}

void Relay::close(Connection& connection, End end) {
  for (Side& side : connection.side) {
    if (side.fd < 0) continue;
    if (end == End::kReset) {
      const linger at_once{1, 0};
      (void)::setsockopt(side.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    ::close(side.fd);
    side.fd = -1;
  }
  if (connection.over) return;
  connection.over = true;
  ++(end == End::kReset ? stats_.reset : stats_.closed);
}

void Relay::end_all(End end) {
  for (Connection& connection : connections_) {
    if (!connection.over) close(connection, end);
  }
  remove_finished();
}

void Relay::remove_finished() {
  std::erase_if(connections_, [this](const Connection& connection) {
    if (!connection.over) return false;
    for (const Shaper& shaper : connection.from) stats_.corrupted += shaper.corrupted();
    return true;
  });
}

RelayStats Relay::stats() const {
  RelayStats sum = stats_;
  for (const Connection& connection : connections_) {
    for (const Shaper& shaper : connection.from) sum.corrupted += shaper.corrupted();
  }
  return sum;
}

// The time of the next step.
std::int64_t Relay::step_all() {
  const std::int64_t now = now_us();
  std::int64_t next_us = kNever;
  for (Connection& connection : connections_) {
    if (!connection.over) step(connection, now);
    if (connection.over) continue;
    for (std::size_t side = 0; side < 2; ++side) {
      if (has_work(connection, side)) next_us = now;
      next_us = std::min(next_us, connection.from[side].next_us().value_or(kNever));
    }
  }
  remove_finished();
  return next_us;
}

Relay::Wake Relay::wait(std::int64_t until_us) {
  const itimerspec when{{}, {until_us / kMicro, until_us % kMicro * 1'000}};
  const bool never = until_us == kNever;
  const itimerspec off{};
  (void)::timerfd_settime(timer_fd_, TFD_TIMER_ABSTIME, never ? &off : &when, nullptr);
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(epoll_fd_, events.data(), events.size(), -1);
  if (count < 0) return Wake::kSignal;
  Wake wake = Wake::kTime;
  for (const epoll_event& event : std::span(events).first(static_cast<std::size_t>(count))) {
    if (event.data.ptr == &other_fd_) wake = Wake::kInput;
    if (event.data.ptr == nullptr || event.data.ptr == &other_fd_) continue;
    auto& side = *static_cast<Side*>(event.data.ptr);
    const bool failed = (event.events & (EPOLLERR | EPOLLHUP)) != 0;
    if (failed || (event.events & (EPOLLIN | EPOLLRDHUP)) != 0) side.can_read = true;
    if (failed || (event.events & EPOLLOUT) != 0) side.can_write = true;
  }
  std::uint64_t expirations;
  (void)!::read(timer_fd_, &expirations, sizeof expirations);
  accept_all();
  return wake;
}

Relay::Wake Relay::run_until(std::int64_t until_us, int other_fd) {
  epoll_event other{};
  other.events = EPOLLIN;
  other.data.ptr = &other_fd_;
  if (other_fd >= 0 && ::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, other_fd, &other) != 0) {
    return Wake::kInput;  // a file: always readable
  }
  Wake wake = Wake::kTime;
  while (wake == Wake::kTime && now_us() < until_us) {
    wake = wait(std::min(step_all(), until_us));
  }
  if (other_fd >= 0) (void)::epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, other_fd, nullptr);
  return wake;
}

}  // namespace splitee::faults
