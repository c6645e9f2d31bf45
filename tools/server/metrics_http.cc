#include <atomic>

#include "tools/http/listener.h"
#include "tools/server/metrics.h"

namespace splitee::tools {

namespace {

// Few and short: what monitoring asks for.
constexpr HttpLimits kLimits{
    .connections = 64, .body_bytes = 1024, .patience = std::chrono::seconds(5)};

}  // namespace

struct MetricsServer::Impl final : HttpHandler {
  HttpResponse page(std::string_view method, std::string_view path) const {
    if (method != "GET" && method != "HEAD") return {405, "text/plain", "only GET and HEAD\n"};
    if (path == "/metrics") {
      return {200, "text/plain; version=0.0.4", metrics_text(*counters, draining)};
    }
    if (path == "/livez") return {.body = "ok\n"};
    if (path == "/healthz" && draining) return {503, "text/plain", "draining\n"};
    if (path == "/healthz") return {.body = "ok\n"};
    return {404, "text/plain", "see /metrics, /healthz and /livez\n"};
  }

  bool wants(HttpExchange&) override { return true; }
  void handle(const std::shared_ptr<HttpExchange>& exchange) override {
    HttpResponse response = page(exchange->request.method, exchange->request.path);
    response.headers.emplace_back("Connection", "close");
    exchange->answer(std::move(response));
  }

  const transport::ServerCounters* counters = nullptr;
  std::atomic<bool> draining{false};
  std::unique_ptr<HttpListener> listener;  // the last: it uses the others until its end
};

MetricsServer::MetricsServer() : impl_(std::make_unique<Impl>()) {}

MetricsServer::~MetricsServer() = default;

Result<std::unique_ptr<MetricsServer>> MetricsServer::start(
    const std::string& endpoint, const transport::ServerCounters& counters) {
  std::unique_ptr<MetricsServer> server(new MetricsServer());
  server->impl_->counters = &counters;
  auto listener = HttpListener::start("--metrics", endpoint, kLimits, *server->impl_);
  if (!listener.ok()) return listener.status();
  server->impl_->listener = std::move(*listener);
  return server;
}

const std::string& MetricsServer::url() const {
  return impl_->listener->url();
}

void MetricsServer::set_draining() noexcept {
  impl_->draining.store(true);
}

}  // namespace splitee::tools
