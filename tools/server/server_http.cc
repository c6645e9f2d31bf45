#include "tools/server/server_http.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/hash.h"
#include "policy/policy.h"
#include "tools/server/metrics.h"
#include "transport/server/backend.h"

namespace splitee::tools {

namespace {

using nlohmann::ordered_json;

constexpr std::size_t kRecent = 200;

std::shared_ptr<const ServedNetwork> serve(std::shared_ptr<const runtime::Network> network) {
  InferProtocol protocol(network->info(), model_name_of(*network), Role::kServer);
  return std::make_shared<ServedNetwork>(ServedNetwork{std::move(network), std::move(protocol)});
}

RowAnswer answer_of(std::span<const float> values, std::size_t exit_layer, runtime::Output output) {
  RowAnswer answer{.exit_layer = exit_layer,
                   .probabilities = std::vector<float>(values.begin(), values.end())};
  if (output == runtime::Output::kClasses) {
    const policy::ExitReading reading = policy::read_exit(values);
    answer.class_index = static_cast<std::uint32_t>(reading.prediction);
    answer.confidence = reading.confidence;
  }
  return answer;
}

}  // namespace

// What one thread computes with; made anew where the network is another one.
class ServerHttp::Worker {
 public:
  explicit Worker(ServerHttp& http) : http_(http) {}

  void run() {
    for (;;) {
      std::vector<JobRow> rows = http_.queue_.take(http_.max_batch_);
      if (rows.empty()) return;
      // Nearly always all of them.
      while (!rows.empty()) {
        const ServedNetwork* served = &rows.front().job->served();
        const auto other = std::stable_partition(rows.begin(), rows.end(), [&](const JobRow& row) {
          return &row.job->served() == served;
        });
        use(served->network);
        run_rows({rows.begin(), other});
        rows.erase(rows.begin(), other);
      }
    }
  }

 private:
  void use(const std::shared_ptr<const runtime::Network>& network) {
    if (network == network_) return;
    network_ = network;
    batch_ = transport::make_engine_backend(network, http_.max_batch_);
    engine_.reset();
  }

  // Rows of one network.
  void run_rows(std::span<const JobRow> rows) {
    const std::size_t last = network_->info().exits() - 1;
    std::vector<runtime::Prepared> inputs;
    std::vector<const JobRow*> batched;
    for (const JobRow& row : rows) {
      Result<runtime::Prepared> input = network_->prepare(row.input());
      if (!input.ok()) {
        fail(row, input.status());
      } else if (row.job->request().exit != last) {
        run_to_exit(row, *input);
      } else {
        inputs.push_back(std::move(*input));
        batched.push_back(&row);
      }
    }
    std::vector<transport::BackendRequest> requests;
    for (const runtime::Prepared& input : inputs) {
      requests.push_back({.layer = 0, .input = input.view()});
    }
    const auto results = batch_->run_batch(requests);
    for (std::size_t i = 0; i < results.size(); ++i) {
      results[i].ok() ? finish(*batched[i], *results[i], last)
                      : fail(*batched[i], results[i].status());
    }
  }

  // Up to an exit before the last, alone.
  void run_to_exit(const JobRow& row, const runtime::Prepared& input) {
    if (engine_ == nullptr) engine_ = network_->make_engine();
    const std::size_t exit = row.job->request().exit;
    Status status = engine_->begin(input.view());
    if (status.ok()) status = engine_->run_to(network_->info().exit_layers[exit]);
    if (!status.ok()) return fail(row, status);
    finish(row, engine_->evaluate_exit(exit), exit);
  }

  void finish(const JobRow& row, std::span<const float> values, std::size_t exit) {
    const runtime::NetworkInfo& info = network_->info();
    const auto age = std::chrono::steady_clock::now() - row.job->created();
    const std::size_t layer = info.exit_layers[exit];
    http_.add_recent(std::chrono::duration_cast<std::chrono::microseconds>(age).count(), layer);
    row.job->finish(row.row, answer_of(values, layer, info.output));
  }
  static void fail(const JobRow& row, const Status& status) {
    row.job->fail(http_status_of(status), status.message());
  }

  ServerHttp& http_;
  std::shared_ptr<const runtime::Network> network_;
  std::unique_ptr<transport::Backend> batch_;
  std::unique_ptr<runtime::Engine> engine_;
};

ServerHttp::ServerHttp(std::shared_ptr<const runtime::Network> network, std::size_t max_batch,
                       const transport::ServerCounters& counters)
    : max_batch_(max_batch), counters_(counters), served_(serve(std::move(network))) {}

Result<std::unique_ptr<ServerHttp>> ServerHttp::start(
    const HttpFlags& flags, std::shared_ptr<const runtime::Network> network, std::size_t threads,
    std::size_t max_batch, const transport::ServerCounters& counters) {
  std::unique_ptr<ServerHttp> http(new ServerHttp(std::move(network), max_batch, counters));
  auto service = HttpService::start(flags, *http);
  if (!service.ok()) return service.status();
  http->service_ = std::move(*service);
  for (std::size_t i = 0; i < threads; ++i) {
    http->threads_.emplace_back([own = http.get()] { Worker(*own).run(); });
  }
  return http;
}

ServerHttp::~ServerHttp() {
  queue_.close();
  for (std::thread& thread : threads_) thread.join();
  service_.reset();
}

std::shared_ptr<const ServedNetwork> ServerHttp::served() const {
  const std::lock_guard lock(mutex_);
  return served_;
}

void ServerHttp::replace_model(std::shared_ptr<const runtime::Network> network) {
  auto served = serve(std::move(network));
  const std::lock_guard lock(mutex_);
  served_ = std::move(served);
}

void ServerHttp::drain(std::chrono::milliseconds patience) {
  service_->set_draining();
  {
    const std::lock_guard lock(mutex_);
    draining_ = true;
  }
  service_->drain(patience);
}

void ServerHttp::add_recent(std::int64_t latency_us, std::size_t exit_layer) {
  const std::lock_guard lock(mutex_);
  if (recent_.size() == kRecent) recent_.pop_front();
  recent_.push_back({latency_us, exit_layer});
  ++rows_;
}

void ServerHttp::figures(Figures which, std::function<void(std::string)> done) {
  if (which == Figures::kLive) return done(live_json());
  std::string text;
  {
    const std::lock_guard lock(mutex_);
    text = metrics_text(counters_, draining_) +
           fmt::format(
               "# HELP splitee_http_rows_total Rows of HTTP requests answered\n"
               "# TYPE splitee_http_rows_total counter\nsplitee_http_rows_total {}\n",
               rows_);
  }
  done(std::move(text));
}

std::string ServerHttp::live_json() const {
  const std::lock_guard lock(mutex_);
  const runtime::NetworkInfo& info = served_->network->info();
  ordered_json root{
      {"program", "splitee-server"},
      {"version", SPLITEE_VERSION},
      {"model",
       {{"name", served_->protocol.model_name()},
        {"layers", info.layers()},
        {"exits", info.exit_layers},
        {"labels", info.labels},
        {"input", runtime::to_string(info.input)},
        {"pairs", info.pairs}}},
      {"waiting", queue_.rows_waiting()},
      {"rows", rows_},
      {"edges",
       {{"connected", counters_.sessions.load()},
        {"requests", counters_.requests.load()},
        {"replies", counters_.replies.load()},
        {"refusals", counters_.refusals.load()},
        {"waiting", counters_.queued.load()}}},
  };
  ordered_json recent{{"first", rows_ - recent_.size()},
                      {"exit_layer", ordered_json::array()},
                      {"latency_us", ordered_json::array()}};
  for (const Recent& entry : recent_) {
    recent["exit_layer"].push_back(entry.exit_layer);
    recent["latency_us"].push_back(entry.latency_us);
  }
  root["recent"] = std::move(recent);
  return root.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace splitee::tools
