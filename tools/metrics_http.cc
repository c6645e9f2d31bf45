#include <charconv>
#include <thread>

#include <httplib.h>

#include "tools/metrics.h"

namespace splitee::tools {

using runtime::Code;
using runtime::Result;
using runtime::Status;

namespace {

constexpr std::size_t kHttpThreads = 2;

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

}  // namespace

struct MetricsServer::Impl {
  httplib::Server http;
  std::thread thread;
  std::string url;
  std::atomic<bool> draining{false}, ended{false};
};

MetricsServer::MetricsServer() : impl_(std::make_unique<Impl>()) {}

MetricsServer::~MetricsServer() {
  impl_->http.stop();
  if (impl_->thread.joinable()) impl_->thread.join();
}

Result<std::unique_ptr<MetricsServer>> MetricsServer::start(
    const std::string& endpoint, const transport::ServerCounters& counters) {
  Result<HostPort> address = parse_endpoint(endpoint);
  if (!address.ok()) return address.status();
  std::unique_ptr<MetricsServer> server(new MetricsServer());
  Impl* impl = server->impl_.get();
  impl->http.new_task_queue = [] { return new httplib::ThreadPool(kHttpThreads); };
  // The default, SO_REUSEPORT, would let two servers share a port without a word.
  impl->http.set_socket_options([](int socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  impl->http.Get(
      "/metrics", [&counters, impl](const httplib::Request&, httplib::Response& response) {
        response.set_content(metrics_text(counters, impl->draining), "text/plain; version=0.0.4");
      });
  impl->http.Get("/livez", [](const httplib::Request&, httplib::Response& response) {
    response.set_content("ok\n", "text/plain");
  });
  impl->http.Get("/healthz", [impl](const httplib::Request&, httplib::Response& response) {
    const bool draining = impl->draining.load();
    response.status = draining ? 503 : 200;
    response.set_content(draining ? "draining\n" : "ok\n", "text/plain");
  });
  const int port = address->port == 0 ? impl->http.bind_to_any_port(address->host.c_str())
                   : impl->http.bind_to_port(address->host.c_str(), address->port) ? address->port
                                                                                   : -1;
  if (port < 0) return Status(Code::kIo, "--metrics " + endpoint + ": cannot bind (in use?)");
  const bool ipv6 = address->host.find(':') != std::string::npos;
  impl->url =
      "http://" + (ipv6 ? "[" + address->host + "]" : address->host) + ":" + std::to_string(port);
  impl->thread = std::thread([impl] {
    impl->http.listen_after_bind();
    impl->ended = true;
  });
  // stop() does nothing before it runs.
  while (!impl->http.is_running() && !impl->ended) std::this_thread::yield();
  return server;
}

const std::string& MetricsServer::url() const {
  return impl_->url;
}

void MetricsServer::set_draining() noexcept {
  impl_->draining.store(true);
}

}  // namespace splitee::tools
