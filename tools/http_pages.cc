#include "tools/http_pages.h"

#include <cerrno>
#include <cstring>
#include <list>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

namespace splitee::tools {

using runtime::Code;
using runtime::Result;
using runtime::Status;

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kBacklog = 64;
constexpr int kPauseMs = 100;  // before accepting again where there was no descriptor left

std::string_view reason_of(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 431:
      return "Request Header Fields Too Large";
    case 503:
      return "Service Unavailable";
    default:
      return "Error";
  }
}

std::string to_bytes(const HttpPage& page, bool with_body) {
  std::string bytes = fmt::format("HTTP/1.1 {} {}\r\n", page.status, reason_of(page.status));
  if (page.status == 405) bytes += "Allow: GET, HEAD\r\n";
  bytes += fmt::format("Content-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                       page.content_type, page.body.size());
  if (with_body) bytes += page.body;
  return bytes;
}

std::string error_bytes(int status, bool with_body = true) {
  return to_bytes({status, "text/plain", fmt::format("{}\n", reason_of(status))}, with_body);
}

// Up to the next space, which is taken away too.
std::string_view next_word(std::string_view& line) {
  const std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(std::min(line.size(), word.size() + 1));
  return word;
}

// A target may be a whole URL, and may end in a query.
std::string_view path_of(std::string_view target) {
  constexpr std::string_view kScheme = "http://";
  if (target.starts_with(kScheme)) {
    const std::size_t slash = target.find('/', kScheme.size());
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  return target.substr(0, target.find('?'));
}

bool is_complete(std::string_view request) {
  return request.find("\r\n\r\n") != std::string_view::npos ||
         request.find("\n\n") != std::string_view::npos;
}

std::string answer_to_line(std::string_view line, const HttpHandler& handler) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  const std::string_view method = next_word(line), target = next_word(line);
  if (!line.starts_with("HTTP/1.") || line.size() != 8) return error_bytes(400);
  if (!target.starts_with('/') && !target.starts_with("http://")) return error_bytes(400);
  const bool with_body = method != "HEAD";
  if (method != "GET" && with_body) return error_bytes(405);
  const std::optional<HttpPage> page = handler(path_of(target));
  return page ? to_bytes(*page, with_body) : error_bytes(404, with_body);
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

struct Connection {
  Descriptor socket;
  Clock::time_point end;
  std::string request, answer;
  std::size_t sent = 0;
  // All is sent. What the client still sends is read and dropped until it closes: closing first
  // could take the answer away from it.
  bool ending = false;
};

bool would_block() {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

// False where the connection is over.
bool send_answer(Connection& connection) {
  while (connection.sent < connection.answer.size()) {
    const ssize_t n = ::send(connection.socket.get(), connection.answer.data() + connection.sent,
                             connection.answer.size() - connection.sent, MSG_NOSIGNAL);
    if (n < 0) return would_block();
    connection.sent += static_cast<std::size_t>(n);
  }
  connection.ending = true;
  return ::shutdown(connection.socket.get(), SHUT_WR) == 0;
}

// False where the connection is over.
bool read_request(Connection& connection, const HttpHandler& handler) {
  char bytes[4096];
  const ssize_t n = ::recv(connection.socket.get(), bytes, sizeof bytes, 0);
  if (n < 0) return would_block();
  if (n == 0) return false;
  if (connection.ending) return true;
  connection.request.append(bytes, static_cast<std::size_t>(n));
  std::optional<std::string> answer = http_answer(connection.request, handler);
  if (!answer) return true;
  connection.answer = std::move(*answer);
  return send_answer(connection);
}

Result<Descriptor> listen_on(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int problem = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (problem != 0) return Status(Code::kIo, ::gai_strerror(problem));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, ::freeaddrinfo);
  int last_error = 0;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    Descriptor socket(::socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    // Not SO_REUSEPORT, with which two servers would share a port without a word.
    const int yes = 1;
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (socket.get() >= 0 && ::bind(socket.get(), at->ai_addr, at->ai_addrlen) == 0 &&
        ::listen(socket.get(), kBacklog) == 0) {
      return socket;
    }
    last_error = errno;
  }
  return Status(Code::kIo, std::strerror(last_error));
}

int bound_port(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  char port[NI_MAXSERV] = "0";
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    ::getnameinfo(reinterpret_cast<sockaddr*>(&address), size, nullptr, 0, port, sizeof port,
                  NI_NUMERICSERV);
  }
  return std::atoi(port);
}

}  // namespace

std::optional<std::string> http_answer(std::string_view request, const HttpHandler& handler) {
  if (!is_complete(request)) {
    if (request.size() < HttpPages::kMaxRequestBytes) return std::nullopt;
    return error_bytes(431);
  }
  return answer_to_line(request.substr(0, request.find('\n')), handler);
}

struct HttpPages::Impl {
  Impl(Descriptor socket, HttpHandler pages)
      : listener(std::move(socket)),
        wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        handler(std::move(pages)) {}

  void run();
  // Takes in all that wait; false where there is no descriptor for them.
  bool accept_all();
  int wait_ms(Clock::time_point now, bool accepting) const;

  Descriptor listener, wake;
  HttpHandler handler;
  std::list<Connection> connections;  // oldest first
  std::thread thread;
};

bool HttpPages::Impl::accept_all() {
  for (;;) {
    Descriptor socket(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (socket.get() < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      return would_block();
    }
    if (connections.size() == kMaxConnections) connections.pop_front();
    connections.push_back({std::move(socket), Clock::now() + kPatience, {}, {}});
  }
}

int HttpPages::Impl::wait_ms(Clock::time_point now, bool accepting) const {
  if (connections.empty()) return accepting ? -1 : kPauseMs;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(connections.front().end - now);
  const int wait = static_cast<int>(std::max<std::int64_t>(0, left.count()));
  return accepting ? wait : std::min(wait, kPauseMs);
}

void HttpPages::Impl::run() {
  std::vector<pollfd> polled;
  for (bool accepting = true;;) {
    const Clock::time_point now = Clock::now();
    while (!connections.empty() && connections.front().end <= now) connections.pop_front();
    polled.assign({{wake.get(), POLLIN, 0}, {accepting ? listener.get() : -1, POLLIN, 0}});
    for (const Connection& connection : connections) {
      const bool sending = !connection.answer.empty() && !connection.ending;
      polled.push_back(
          {connection.socket.get(), static_cast<short>(sending ? POLLOUT : POLLIN), 0});
    }
    ::poll(polled.data(), polled.size(), wait_ms(now, accepting));
    if (polled[0].revents != 0) return;
    std::size_t i = 2;
    for (auto it = connections.begin(); it != connections.end(); ++i) {
      const bool ready = polled[i].revents != 0, sending = (polled[i].events & POLLOUT) != 0;
      const bool goes_on = !ready || (sending ? send_answer(*it) : read_request(*it, handler));
      it = goes_on ? std::next(it) : connections.erase(it);
    }
    accepting = !accepting || polled[1].revents == 0 || accept_all();
  }
}

HttpPages::HttpPages() = default;

Result<std::unique_ptr<HttpPages>> HttpPages::start(const std::string& host, int port,
                                                    HttpHandler handler) {
  Result<Descriptor> socket = listen_on(host, port);
  if (!socket.ok()) return socket.status();
  std::unique_ptr<HttpPages> pages(new HttpPages());
  pages->impl_ = std::make_unique<Impl>(std::move(*socket), std::move(handler));
  if (pages->impl_->wake.get() < 0) return Status(Code::kIo, std::strerror(errno));
  pages->impl_->thread = std::thread([impl = pages->impl_.get()] { impl->run(); });
  return pages;
}

HttpPages::~HttpPages() {
  if (!impl_ || !impl_->thread.joinable()) return;
  const std::uint64_t one = 1;
  while (::write(impl_->wake.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
  impl_->thread.join();
}

int HttpPages::port() const {
  return bound_port(impl_->listener.get());
}

}  // namespace splitee::tools
