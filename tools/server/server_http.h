// splitee-server over HTTP: rows of requests, made ready and run to the last exit in batches by
// threads of its own, beside those that serve edges.
// Thread rule: start(), replace_model() and drain() by any thread, one at a time; the rest from
// anywhere. Ownership: borrows the counters, which must outlive it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "runtime/network.h"
#include "tools/http/service.h"
#include "transport/counters.h"

namespace splitee::tools {

class ServerHttp final : private InferBackend {
 public:
  static Result<std::unique_ptr<ServerHttp>> start(const HttpFlags& flags,
                                                   std::shared_ptr<const runtime::Network> network,
                                                   std::size_t threads, std::size_t max_batch,
                                                   const transport::ServerCounters& counters);
  ~ServerHttp() override;

  const std::string& url() const { return service_->url(); }
  // For requests that come from now on; those that are there are finished on the one before.
  void replace_model(std::shared_ptr<const runtime::Network> network);
  // Refuses new requests from now on, and waits at most `patience` for those that are there.
  void drain(std::chrono::milliseconds patience);

 private:
  class Worker;
  ServerHttp(std::shared_ptr<const runtime::Network> network, std::size_t max_batch,
             const transport::ServerCounters& counters);
  std::shared_ptr<const ServedNetwork> served() const override;
  bool submit(std::shared_ptr<InferJob> job) override { return queue_.push(std::move(job)); }
  void figures(Figures which, std::function<void(std::string)> done) override;
  std::string live_json() const;
  void add_recent(std::int64_t latency_us, std::size_t exit_layer);

  const std::size_t max_batch_;
  const transport::ServerCounters& counters_;
  RowQueue queue_;
  mutable std::mutex mutex_;  // of what follows
  std::shared_ptr<const ServedNetwork> served_;
  struct Recent {
    std::int64_t latency_us;
    std::size_t exit_layer;
  };
  std::deque<Recent> recent_;
  std::uint64_t rows_ = 0;
  bool draining_ = false;
  std::vector<std::thread> threads_;
  std::unique_ptr<HttpService> service_;
};

}  // namespace splitee::tools
