#include "tools/metrics.h"

#include <charconv>

#include "tools/http_pages.h"

namespace splitee::tools {

using runtime::Code;
using runtime::Result;
using runtime::Status;

namespace {

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
  explicit Impl(const transport::ServerCounters& borrowed) : counters(borrowed) {}

  std::optional<HttpPage> page(std::string_view path) const {
    const bool stopping = draining.load();
    if (path == "/metrics") {
      return HttpPage{200, "text/plain; version=0.0.4", metrics_text(counters, stopping)};
    }
    if (path == "/livez") return HttpPage{200, "text/plain", "ok\n"};
    if (path != "/healthz") return std::nullopt;
    return stopping ? HttpPage{503, "text/plain", "draining\n"}
                    : HttpPage{200, "text/plain", "ok\n"};
  }

  const transport::ServerCounters& counters;
  std::atomic<bool> draining{false};
  std::string url;
  std::unique_ptr<HttpPages> pages;
};

MetricsServer::MetricsServer(const transport::ServerCounters& counters)
    : impl_(std::make_unique<Impl>(counters)) {}

MetricsServer::~MetricsServer() = default;

Result<std::unique_ptr<MetricsServer>> MetricsServer::start(
    const std::string& endpoint, const transport::ServerCounters& counters) {
  Result<HostPort> address = parse_endpoint(endpoint);
  if (!address.ok()) return address.status();
  std::unique_ptr<MetricsServer> server(new MetricsServer(counters));
  Impl* impl = server->impl_.get();
  Result<std::unique_ptr<HttpPages>> pages = HttpPages::start(
      address->host, address->port, [impl](std::string_view path) { return impl->page(path); });
  if (!pages.ok()) {
    return Status(Code::kIo, "--metrics " + endpoint + ": " + pages.status().message());
  }
  impl->pages = std::move(*pages);
  const bool ipv6 = address->host.find(':') != std::string::npos;
  impl->url = "http://" + (ipv6 ? "[" + address->host + "]" : address->host) + ":" +
              std::to_string(impl->pages->port());
  return server;
}

const std::string& MetricsServer::url() const {
  return impl_->url;
}

void MetricsServer::set_draining() noexcept {
  impl_->draining.store(true);
}

}  // namespace splitee::tools
