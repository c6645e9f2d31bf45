#include <atomic>
#include <charconv>
#include <vector>

#include <microhttpd.h>
#include <netdb.h>
#include <sys/socket.h>

#include "tools/metrics.h"

namespace splitee::tools {

using runtime::Code;
using runtime::Result;
using runtime::Status;

namespace {

// One thread serves all connections and waits for none of them: who is slow holds up nobody else's
// answer. One connection more than kMaxConnections takes the place of the oldest, so that the slow
// cannot hold all places either.
constexpr std::size_t kMaxConnections = 64;
constexpr unsigned kIdleSeconds = 5;
constexpr std::size_t kConnectionBytes = 16384;

struct HostPort {
  std::string host;
  int port = 0;
};

Result<HostPort> parse_endpoint(const std::string& endpoint) {
  const std::size_t colon = endpoint.rfind(':');
  HostPort result;
  if (colon != std::string::npos) result.host = endpoint.substr(0, colon);
  if (result.host.starts_with('[') && result.host.ends_with(']')) {
    result.host = result.host.substr(1, result.host.size() - 2);
  }
  const char* end = endpoint.data() + endpoint.size();
  const char* digits = colon == std::string::npos ? end : endpoint.data() + colon + 1;
  const auto [stop, problem] = std::from_chars(digits, end, result.port);
  if (result.host.empty() || problem != std::errc() || stop != end || result.port < 0 ||
      result.port > 65535) {
    return Status(Code::kInvalidArgument, "--metrics " + endpoint + ": not HOST:PORT");
  }
  return result;
}

struct Page {
  unsigned status = MHD_HTTP_OK;
  const char* type = "text/plain";
  std::string body;
};

MHD_Result answer(MHD_Connection* connection, const Page& page) {
  MHD_Response* response = MHD_create_response_from_buffer(
      page.body.size(), const_cast<char*>(page.body.data()), MHD_RESPMEM_MUST_COPY);
  if (response == nullptr) return MHD_NO;
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, page.type);
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
  const MHD_Result result = MHD_queue_response(connection, page.status, response);
  MHD_destroy_response(response);
  return result;
}

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};

}  // namespace

struct MetricsServer::Impl {
  Page page(std::string_view method, std::string_view path) const {
    if (method != MHD_HTTP_METHOD_GET && method != MHD_HTTP_METHOD_HEAD) {
      return {MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain", "only GET and HEAD\n"};
    }
    if (path == "/metrics") {
      return {MHD_HTTP_OK, "text/plain; version=0.0.4", metrics_text(*counters, draining)};
    }
    if (path == "/livez") return {.body = "ok\n"};
    if (path == "/healthz") {
      if (draining) return {MHD_HTTP_SERVICE_UNAVAILABLE, "text/plain", "draining\n"};
      return {.body = "ok\n"};
    }
    return {MHD_HTTP_NOT_FOUND, "text/plain", "see /metrics, /healthz and /livez\n"};
  }

  static MHD_Result handle(void* self, MHD_Connection* connection, const char* path,
                           const char* method, const char* /*version*/, const char* /*data*/,
                           std::size_t* /*data_size*/, void** /*request*/) {
    return answer(connection, static_cast<const Impl*>(self)->page(method, path));
  }

  // In the daemon's one thread.
  static void count(void* self, MHD_Connection* connection, void** /*context*/,
                    MHD_ConnectionNotificationCode code) {
    auto& open = static_cast<Impl*>(self)->open;
    const MHD_socket socket =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
      std::erase(open, socket);
      return;
    }
    open.push_back(socket);
    // It is then closed as if its peer had.
    if (open.size() > kMaxConnections) ::shutdown(open.front(), SHUT_RDWR);
  }

  std::vector<MHD_socket> open;  // the oldest first
  const transport::ServerCounters* counters = nullptr;
  MHD_Daemon* daemon = nullptr;
  std::string url;
  std::atomic<bool> draining{false};
};

MetricsServer::MetricsServer() : impl_(std::make_unique<Impl>()) {}

MetricsServer::~MetricsServer() {
  if (impl_->daemon != nullptr) MHD_stop_daemon(impl_->daemon);
}

Result<std::unique_ptr<MetricsServer>> MetricsServer::start(
    const std::string& endpoint, const transport::ServerCounters& counters) {
  const Result<HostPort> address = parse_endpoint(endpoint);
  if (!address.ok()) return address.status();
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  if (const int problem = ::getaddrinfo(address->host.c_str(),
                                        std::to_string(address->port).c_str(), &hints, &found);
      problem != 0) {
    return Status(Code::kIo, "--metrics " + endpoint + ": " + ::gai_strerror(problem));
  }
  const std::unique_ptr<addrinfo, FreeAddresses> addresses(found);
  const bool ipv6 = found->ai_family == AF_INET6;
  std::unique_ptr<MetricsServer> server(new MetricsServer());
  Impl* impl = server->impl_.get();
  impl->counters = &counters;
  impl->daemon = MHD_start_daemon(
      MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD | (ipv6 ? MHD_USE_IPv6 : MHD_NO_FLAG), 0,
      nullptr, nullptr, Impl::handle, impl, MHD_OPTION_SOCK_ADDR, found->ai_addr,
      MHD_OPTION_CONNECTION_LIMIT, static_cast<unsigned>(2 * kMaxConnections),
      MHD_OPTION_NOTIFY_CONNECTION, Impl::count, impl, MHD_OPTION_CONNECTION_TIMEOUT, kIdleSeconds,
      MHD_OPTION_CONNECTION_MEMORY_LIMIT, kConnectionBytes, MHD_OPTION_END);
  if (impl->daemon == nullptr) {
    return Status(Code::kIo, "--metrics " + endpoint + ": cannot bind (in use?)");
  }
  const MHD_DaemonInfo* bound = MHD_get_daemon_info(impl->daemon, MHD_DAEMON_INFO_BIND_PORT);
  impl->url =
      "http://" +
      (address->host.find(':') != std::string::npos ? "[" + address->host + "]" : address->host) +
      ":" + std::to_string(bound != nullptr ? bound->port : address->port);
  return server;
}

const std::string& MetricsServer::url() const {
  return impl_->url;
}

void MetricsServer::set_draining() noexcept {
  impl_->draining.store(true);
}

}  // namespace splitee::tools
