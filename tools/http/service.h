// The pages of a program that serves over HTTP: the Open Inference Protocol at /v2, the live page
// at / with its figures at /live.json, /metrics, /healthz and /livez; and who may ask for them.
//
// Who may ask: with a token every page but the health checks and the live page itself (which holds
// no figures) wants "Authorization: Bearer TOKEN". Without, the service listens on loopback alone
// (unless it is told to be insecure) and takes only Host headers that no name of elsewhere can be
// behind. Requests that a browser sends for a page of another origin are refused, and so are those
// POSTs of a browser that are not JSON: it sends them without asking first.
// Thread rule: start(), drain() and the destructor by one thread; the rest from anywhere.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/status.h"
#include "tools/http/http_flags.h"
#include "tools/http/listener.h"
#include "tools/http/protocol.h"
#include "tools/http/row_queue.h"

namespace splitee::tools {

// Connections that limits on open files leave room for, at most those of HttpLimits; raises the
// limit as far as allowed first.
std::size_t http_connections();

// What a program does with the requests.
class InferBackend {
 public:
  virtual ~InferBackend() = default;
  // The network of now.
  virtual std::shared_ptr<const ServedNetwork> served() const = 0;
  // False: too much waits.
  virtual bool submit(std::shared_ptr<InferJob> job) = 0;
  enum class Figures { kLive, kMetrics };
  // The JSON of the live page, or the metrics without those of HTTP itself, now or later.
  virtual void figures(Figures which, std::function<void(std::string)> done) = 0;
};

class HttpService final : private HttpHandler {
 public:
  // `backend` must outlive the service. Fails on an address beyond loopback without a token, and on
  // what HttpListener::start() does.
  static Result<std::unique_ptr<HttpService>> start(const HttpFlags& flags, InferBackend& backend);
  ~HttpService() override;

  const std::string& url() const { return listener_->url(); }
  // From now on not ready: requests are refused.
  void set_draining() noexcept { draining_ = true; }
  // See HttpListener::drain().
  void drain(std::chrono::milliseconds patience) { listener_->drain(patience); }

 private:
  explicit HttpService(InferBackend& backend) : backend_(backend) {}
  bool wants(HttpExchange& exchange) override;
  void handle(const std::shared_ptr<HttpExchange>& exchange) override;
  std::optional<HttpResponse> refusal(const HttpRequest& request) const;
  std::optional<HttpResponse> post_refusal(const HttpRequest& request) const;
  void infer(const std::shared_ptr<HttpExchange>& exchange);
  void figures(const std::shared_ptr<HttpExchange>& exchange, InferBackend::Figures which);
  HttpResponse page(const HttpRequest& request) const;
  void answer(HttpExchange& exchange, HttpResponse response);
  std::string http_metrics() const;

  InferBackend& backend_;
  std::string token_;
  bool fixed_hosts_ = false;
  std::atomic<bool> draining_{false};
  std::array<std::atomic<std::uint64_t>, 6> answers_{};  // by hundreds of the status
  std::unique_ptr<HttpListener> listener_;
};

}  // namespace splitee::tools
