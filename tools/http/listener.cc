#include "tools/http/listener.h"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tools/http/address.h"
#include "tools/http/microhttpd.h"

namespace splitee::tools {

namespace {

using Clock = std::chrono::steady_clock;

// Called only after start() has loaded it.
const Microhttpd& mhd() {
  static const Microhttpd& library = **load_microhttpd();
  return library;
}

// Beyond the limit, until those in whose place they come are closed.
constexpr std::size_t kSpareConnections = 64;
constexpr std::chrono::milliseconds kSweepEvery{100}, kDrainStep{10};
constexpr std::chrono::milliseconds kLeavePatience{300};  // for answers, at the end
// A body that is announced as longer is refused before it comes: the client may not see why.
constexpr std::uint64_t kMostDiscardedBytes = std::uint64_t{64} << 20;

// A connection, where it is with its request.
struct Connection {
  MHD_socket socket;
  Clock::time_point since = Clock::now();  // of the phase
  bool answering = false;                  // an answer of ours is waited for
  bool cut = false;
};

void set_port(addrinfo& address, int port) {
  const in_port_t number = htons(static_cast<std::uint16_t>(port));
  void* of_family = address.ai_addr;
  if (address.ai_family == AF_INET6) {
    static_cast<sockaddr_in6*>(of_family)->sin6_port = number;
  } else {
    static_cast<sockaddr_in*>(of_family)->sin_port = number;
  }
}

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};

Connection* connection_of(MHD_Connection* connection) {
  const MHD_ConnectionInfo* info =
      mhd().get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
  return info == nullptr ? nullptr : static_cast<Connection*>(info->socket_context);
}

std::optional<std::uint64_t> announced_bytes(const HttpRequest& request) {
  const std::string text = request.header("Content-Length");
  std::uint64_t bytes = 0;
  const auto [stop, problem] = std::from_chars(text.data(), text.data() + text.size(), bytes);
  if (text.empty() || problem != std::errc() || stop != text.data() + text.size()) return {};
  return bytes;
}

bool equal_but_for_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

bool is_token(std::string_view text) {
  static constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    return letter || kMarks.find(c) != kMarks.npos;
  });
}

// What the library lets pass, and others between the client and here may have read differently:
// where a request ends (so that a second one hides in its body), and for which host it is.
class HeaderCheck {
 public:
  explicit HeaderCheck(MHD_Connection* connection) {
    mhd().get_connection_values_n(connection, MHD_HEADER_KIND, see, this);
  }
  // What is wrong; null if nothing is.
  const char* problem(std::string_view version) const {
    if (!names_) return "a header whose name is none";
    if (folded_) return "a header of several lines";
    if (hosts_ > 1) return "more than one Host";
    if (lengths_ > 1) return "more than one Content-Length";
    if (codings_ > 0 && lengths_ > 0) return "both Content-Length and Transfer-Encoding";
    if (codings_ > 1 || (codings_ == 1 && !chunked_)) return "Transfer-Encoding is not 'chunked'";
    if (codings_ == 1 && version == MHD_HTTP_VERSION_1_0) return "Transfer-Encoding in HTTP/1.0";
    return nullptr;
  }

 private:
  static MHD_Result see(void* self, MHD_ValueKind /*kind*/, const char* name, std::size_t name_size,
                        const char* value, std::size_t value_size) {
    static_cast<HeaderCheck*>(self)->add({name, name_size}, {value, value_size});
    return MHD_YES;
  }
  void add(std::string_view name, std::string_view value) {
    names_ = names_ && is_token(name);
    // The library puts what a folded line holds behind the name, which moves away from its value.
    folded_ = folded_ || (value.data() != nullptr && std::less<>()(value.data(), name.data()));
    if (equal_but_for_case(name, MHD_HTTP_HEADER_HOST)) ++hosts_;
    if (equal_but_for_case(name, MHD_HTTP_HEADER_CONTENT_LENGTH)) ++lengths_;
    if (!equal_but_for_case(name, MHD_HTTP_HEADER_TRANSFER_ENCODING)) return;
    ++codings_;
    chunked_ = equal_but_for_case(value, "chunked");
  }

  std::size_t hosts_ = 0, lengths_ = 0, codings_ = 0;
  bool names_ = true, folded_ = false, chunked_ = false;
};

// Resolves the percent signs of a path, in place; its new length. %00 stays as it is: the library
// hands a path over as text that ends at a NUL.
std::size_t unescape(void* /*self*/, MHD_Connection* /*connection*/, char* text) {
  char* out = text;
  for (const char* in = text; *in != '\0'; ++out) {
    unsigned char byte = 0;
    const bool escape = in[0] == '%' && in[1] != '\0' && in[2] != '\0' &&
                        std::from_chars(in + 1, in + 3, byte, 16).ptr == in + 3 && byte != 0;
    *out = escape ? static_cast<char>(byte) : *in;
    in += escape ? 3 : 1;
  }
  *out = '\0';
  return static_cast<std::size_t>(out - text);
}

MHD_Result queue(MHD_Connection* connection, const HttpResponse& page) {
  MHD_Response* response = mhd().create_response_from_buffer(
      page.body.size(), const_cast<char*>(page.body.data()), MHD_RESPMEM_MUST_COPY);
  if (response == nullptr) return MHD_NO;
  mhd().add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, page.type.c_str());
  for (const auto& [name, value] : page.headers) {
    mhd().add_response_header(response, name.c_str(), value.c_str());
  }
  const MHD_Result result = mhd().queue_response(connection, page.status, response);
  mhd().destroy_response(response);
  return result;
}

// An exchange over a connection of the library.
class Exchange final : public HttpExchange {
 public:
  explicit Exchange(MHD_Connection* connection) : connection_(connection) {}

  void answer(HttpResponse response) override {
    const std::lock_guard lock(mutex_);
    if (response_) return;
    response_ = std::move(response);
    if (suspended_ && connection_ != nullptr) mhd().resume_connection(connection_);
    suspended_ = false;
  }
  bool answered() const {
    const std::lock_guard lock(mutex_);
    return response_.has_value();
  }
  // In the connection's thread: sends the answer, or waits for it.
  MHD_Result send(bool& sent) {
    const std::lock_guard lock(mutex_);
    sent = response_.has_value();
    if (sent) return queue(connection_, *response_);
    suspended_ = true;
    mhd().suspend_connection(connection_);
    return MHD_YES;
  }
  void end() {
    const std::lock_guard lock(mutex_);
    connection_ = nullptr;
  }

  std::atomic<bool> handled{false};  // given to the handler
  std::size_t held_bytes = 0;

 private:
  mutable std::mutex mutex_;
  MHD_Connection* connection_;
  std::optional<HttpResponse> response_;
  bool suspended_ = false;
};

using Held = std::shared_ptr<Exchange>;

}  // namespace

struct HttpListener::Impl {
  struct Door {
    Impl* impl;
    MHD_Daemon* daemon = nullptr;
  };

  static MHD_Result access(void* self, MHD_Connection* connection, const char* path,
                           const char* method, const char* version, const char* data,
                           std::size_t* data_size, void** request) {
    try {
      auto* impl = static_cast<Impl*>(self);
      if (*request == nullptr) return impl->begin(connection, path, method, version, request);
      return impl->step(connection, {data, *data_size}, data_size, request);
    } catch (const std::exception&) {
      return MHD_NO;  // out of memory: no answer, and the program goes on
    }
  }

  MHD_Result step(MHD_Connection* connection, std::string_view data, std::size_t* data_size,
                  void** request) {
    Held& held = *static_cast<Held*>(*request);
    if (*data_size > 0) {
      take(*held, data);
      *data_size = 0;
      return MHD_YES;
    }
    set_phase(connection, /*answering=*/true);
    if (!held->answered() && !held->handled) {
      held->handled = true;
      if (stopping) held->answer(json_error(503, "shutting down"));
      if (!stopping) handler->handle(held);
    }
    bool sent = false;
    const MHD_Result result = held->send(sent);
    if (sent) set_phase(connection, /*answering=*/false);
    return result;
  }

  MHD_Result begin(MHD_Connection* connection, const char* path, const char* method,
                   const char* version, void** request) {
    auto held = std::make_unique<Held>(std::make_shared<Exchange>(connection));
    Exchange& exchange = **held;
    exchange.request.method = method;
    exchange.request.path = path;
    exchange.request.header = [connection](const char* name) {
      const char* value = mhd().lookup_connection_value(connection, MHD_HEADER_KIND, name);
      return std::string(value == nullptr ? "" : value);
    };
    const auto announced = announced_bytes(exchange.request);
    exchange.request.has_body =
        announced.value_or(0) > 0 || !exchange.request.header("Transfer-Encoding").empty();
    {
      const std::lock_guard lock(mutex);
      live.insert(*held);
    }
    *request = held.release();
    bool sent = false;
    if (const char* problem = HeaderCheck(connection).problem(version)) {
      HttpResponse refused = json_error(400, problem);
      refused.headers.emplace_back(MHD_HTTP_HEADER_CONNECTION, "close");
      exchange.answer(std::move(refused));
      return exchange.send(sent);  // nothing that follows is read
    }
    if (handler->wants(exchange) && announced.value_or(0) > limits.body_bytes)
      refuse_long(exchange);
    // What is refused is still read to its end, so that the client sees why: unless it asks first.
    const bool at_once =
        !exchange.request.header("Expect").empty() || announced.value_or(0) > kMostDiscardedBytes;
    return exchange.answered() && exchange.request.has_body && at_once ? exchange.send(sent)
                                                                       : MHD_YES;
  }

  void refuse_long(Exchange& exchange) const {
    exchange.answer(
        json_error(413, "the body is longer than " + std::to_string(limits.body_bytes) + " bytes"));
  }

  // A part of the body; what is refused already is dropped.
  void take(Exchange& exchange, std::string_view data) {
    if (exchange.answered()) return;
    exchange.held_bytes += data.size();
    if (exchange.held_bytes > limits.body_bytes) refuse_long(exchange);
    if ((body_bytes += data.size()) > limits.all_body_bytes) {
      exchange.answer(json_error(503, "too many requests at the same time"));
    }
    if (!exchange.answered()) exchange.request.body += data;
  }

  void set_phase(MHD_Connection* connection, bool answering) {
    const std::lock_guard lock(mutex);
    if (Connection* own = connection_of(connection)) {
      own->answering = answering;
      own->since = Clock::now();
    }
  }

  static void completed(void* self, MHD_Connection* connection, void** request,
                        MHD_RequestTerminationCode /*code*/) {
    auto* held = static_cast<Held*>(*request);
    if (held == nullptr) return;
    auto* impl = static_cast<Impl*>(self);
    (*held)->end();
    impl->body_bytes -= (*held)->held_bytes;
    impl->set_phase(connection, /*answering=*/false);
    {
      const std::lock_guard lock(impl->mutex);
      impl->live.erase(*held);
    }
    impl->changed.notify_all();
    delete held;
    *request = nullptr;
  }

  static void count(void* self, MHD_Connection* connection, void** context,
                    MHD_ConnectionNotificationCode code) {
    auto* impl = static_cast<Impl*>(self);
    const std::lock_guard lock(impl->mutex);
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
      std::erase_if(impl->connections, [&](const auto& own) { return own.get() == *context; });
      *context = nullptr;
      return;
    }
    const MHD_socket socket =
        mhd().get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    try {
      impl->connections.push_back(std::make_unique<Connection>(Connection{.socket = socket}));
    } catch (const std::bad_alloc&) {
      ::shutdown(socket, SHUT_RDWR);
      return;
    }
    *context = impl->connections.back().get();
    impl->make_room();
  }

  // It is then closed as if its peer had.
  static void cut(Connection& connection) {
    connection.cut = true;
    ::shutdown(connection.socket, SHUT_RDWR);
  }

  // With the mutex held. The oldest comes first; the newest is not answering.
  void make_room() {
    const auto open = std::ranges::count_if(connections, [](const auto& own) { return !own->cut; });
    if (static_cast<std::size_t>(open) <= limits.connections) return;
    for (const auto& own : connections) {
      if (!own->cut && !own->answering) return cut(*own);
    }
  }

  void sweep() {
    std::unique_lock lock(mutex);
    while (!ended) {
      changed.wait_for(lock, kSweepEvery);
      const auto now = Clock::now();
      for (const auto& own : connections) {
        if (!own->cut && !own->answering && now - own->since > limits.patience) cut(*own);
      }
    }
  }

  bool open_door(const addrinfo& address);
  Status open_doors(const std::string& flag, const std::string& endpoint);
  void refuse_rest();
  void close_doors();

  HttpHandler* handler = nullptr;
  HttpLimits limits;
  std::list<Door> doors;
  std::string url;
  std::atomic<bool> stopping{false};
  std::atomic<std::size_t> body_bytes{0};
  std::mutex mutex;  // of what follows
  std::condition_variable changed;
  std::list<std::unique_ptr<Connection>> connections;  // the oldest first
  std::set<Held> live;
  bool ended = false;
  std::thread sweeper;
};

// False, with errno, where it cannot be listened on.
bool HttpListener::Impl::open_door(const addrinfo& address) {
  Door& door = doors.emplace_back(Door{this});
  const bool ipv6 = address.ai_family == AF_INET6;
  errno = 0;
  door.daemon = mhd().start_daemon(
      MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME |
          (ipv6 ? MHD_USE_IPv6 : MHD_NO_FLAG),
      0, nullptr, nullptr, access, this, MHD_OPTION_SOCK_ADDR, address.ai_addr,
      MHD_OPTION_CONNECTION_LIMIT, static_cast<unsigned>(limits.connections + kSpareConnections),
      MHD_OPTION_LISTEN_BACKLOG_SIZE, static_cast<unsigned>(limits.connections),
      MHD_OPTION_NOTIFY_CONNECTION, count, this, MHD_OPTION_NOTIFY_COMPLETED, completed, this,
      MHD_OPTION_CONNECTION_MEMORY_LIMIT, limits.connection_bytes, MHD_OPTION_STRICT_FOR_CLIENT, 1,
      MHD_OPTION_UNESCAPE_CALLBACK, unescape, nullptr, MHD_OPTION_END);
  if (door.daemon != nullptr) return true;
  const int error = errno;
  doors.pop_back();
  errno = error;
  return false;
}

Status HttpListener::Impl::open_doors(const std::string& flag, const std::string& endpoint) {
  const Result<HostPort> address = parse_host_port(flag, endpoint);
  if (!address.ok()) return address.status();
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  int port = address->port;
  if (const int problem =
          ::getaddrinfo(address->host.c_str(), std::to_string(port).c_str(), &hints, &found);
      problem != 0) {
    return Status(Code::kIo, flag + " " + endpoint + ": " + ::gai_strerror(problem));
  }
  const std::unique_ptr<addrinfo, FreeAddresses> addresses(found);
  for (addrinfo* next = found; next != nullptr; next = next->ai_next) {
    set_port(*next, port);
    if (open_door(*next)) {
      const MHD_DaemonInfo* bound =
          mhd().get_daemon_info(doors.back().daemon, MHD_DAEMON_INFO_BIND_PORT);
      if (bound != nullptr) port = bound->port;
    } else if (errno != EADDRNOTAVAIL && errno != EAFNOSUPPORT) {
      // A name may have addresses that this machine does not have, but not all of them.
      close_doors();
      break;
    }
  }
  if (doors.empty()) {
    return Status(Code::kIo, flag + " " + endpoint + ": cannot bind (in use?)");
  }
  const bool brackets = address->host.find(':') != std::string::npos;
  url = "http://" + (brackets ? "[" + address->host + "]" : address->host) + ":" +
        std::to_string(port);
  return {};
}

// Answers what nobody has answered; what comes from now on, too.
void HttpListener::Impl::refuse_rest() {
  stopping = true;
  std::set<Held> left;
  {
    const std::lock_guard lock(mutex);
    left = live;
  }
  for (const Held& held : left) held->answer(json_error(503, "shutting down"));
}

void HttpListener::Impl::close_doors() {
  refuse_rest();
  for (const Door& door : doors) mhd().stop_daemon(door.daemon);
  doors.clear();
}

HttpListener::HttpListener() : impl_(std::make_unique<Impl>()) {}

HttpListener::~HttpListener() {
  impl_->close_doors();
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->ended = true;
  }
  impl_->changed.notify_all();
  if (impl_->sweeper.joinable()) impl_->sweeper.join();
}

Result<std::unique_ptr<HttpListener>> HttpListener::start(const std::string& flag,
                                                          const std::string& endpoint,
                                                          const HttpLimits& limits,
                                                          HttpHandler& handler) {
  if (const auto library = load_microhttpd(); !library.ok()) {
    return Status(library.status().code(), flag + ": " + library.status().message());
  }
  std::unique_ptr<HttpListener> listener(new HttpListener());
  listener->impl_->handler = &handler;
  listener->impl_->limits = limits;
  if (Status status = listener->impl_->open_doors(flag, endpoint); !status.ok()) return status;
  listener->impl_->sweeper = std::thread([impl = listener->impl_.get()] { impl->sweep(); });
  return listener;
}

const std::string& HttpListener::url() const {
  return impl_->url;
}

void HttpListener::drain(std::chrono::milliseconds patience) {
  for (const Impl::Door& door : impl_->doors) {
    const MHD_socket listening = mhd().quiesce_daemon(door.daemon);
    if (listening != MHD_INVALID_SOCKET) ::close(listening);
  }
  const auto wait = [&](std::chrono::milliseconds most, auto is_over) {
    const auto end = Clock::now() + most;
    std::unique_lock lock(impl_->mutex);
    while (!std::ranges::all_of(impl_->live, is_over) && Clock::now() < end) {
      impl_->changed.wait_for(lock, kDrainStep);
    }
  };
  wait(patience, [](const Held& held) { return !held->handled || held->answered(); });
  impl_->refuse_rest();
  wait(kLeavePatience, [](const Held& held) { return !held->handled; });
}

}  // namespace splitee::tools
