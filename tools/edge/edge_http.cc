#include "tools/edge/edge_http.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include <sys/eventfd.h>
#include <unistd.h>

namespace splitee::tools {

namespace {

// What HTTP clients are told of a record.
RowAnswer answer_of(const Record& record, std::span<const float> confidences,
                    const runtime::NetworkInfo& info) {
  RowAnswer answer{.class_index = record.class_index,
                   .confidence = record.confidence,
                   .exit_layer = record.exit_layer,
                   .probabilities = record.answers,
                   .route = std::string(policy::route_name(record.route)),
                   .cost = record.cost,
                   .exit_confidences = {},
                   .latency_us = record.edge_us + record.link_us + record.server_us,
                   .bytes_sent = record.bytes_sent};
  for (const float confidence : confidences) {
    answer.exit_confidences.push_back(std::isnan(confidence) ? -1.0F : confidence);
  }
  // A server's answer is its last exit's.
  const auto exit = std::ranges::find(info.exit_layers, record.exit_layer);
  const auto arm = static_cast<std::size_t>(exit - info.exit_layers.begin());
  if (arm < answer.exit_confidences.size()) answer.exit_confidences[arm] = record.confidence;
  return answer;
}

}  // namespace

Result<std::unique_ptr<EdgeHttp>> EdgeHttp::start(const HttpFlags& flags,
                                                  std::shared_ptr<const runtime::Network> network) {
  std::unique_ptr<EdgeHttp> http(new EdgeHttp(std::move(network)));
  if (http->fd_ < 0) return Status(Code::kIo, "--http: no descriptor for events is left");
  auto service = HttpService::start(flags, *http);
  if (!service.ok()) return service.status();
  http->service_ = std::move(*service);
  return http;
}

EdgeHttp::EdgeHttp(std::shared_ptr<const runtime::Network> network)
    : served_(std::make_shared<ServedNetwork>(ServedNetwork{
          network, InferProtocol(network->info(), model_name_of(*network), Role::kEdge)})),
      fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      live_(*served_) {}

EdgeHttp::~EdgeHttp() {
  queue_.close();
  service_.reset();
  if (fd_ >= 0) ::close(fd_);
}

void EdgeHttp::clear_fd() {
  std::uint64_t count = 0;
  if (::read(fd_, &count, sizeof count) < 0) return;  // nothing has come since
}

void EdgeHttp::wake() const {
  const std::uint64_t one = 1;
  if (::write(fd_, &one, sizeof one) < 0) return;  // it is readable already
}

bool EdgeHttp::submit(std::shared_ptr<InferJob> job) {
  if (!queue_.push(std::move(job))) return false;
  wake();
  return true;
}

void EdgeHttp::figures(Figures which, std::function<void(std::string)> done) {
  {
    const std::lock_guard lock(mutex_);
    waiting_figures_.emplace_back(which, std::move(done));
  }
  wake();
}

bool EdgeHttp::next(Sample& sample) {
  std::vector<JobRow> rows = queue_.try_take(1);
  if (rows.empty()) return false;
  at_hand_ = std::move(rows.front());
  const std::size_t max_length = sample.input.max_length;
  sample.id = next_id_;
  sample.input = at_hand_.input();
  sample.input.max_length = max_length;
  return true;
}

void EdgeHttp::started() {
  ++next_id_;
  in_progress_.push_back(std::move(at_hand_));
}

void EdgeHttp::refused(const Status& status) {
  at_hand_.job->fail(http_status_of(status), status.message());
  at_hand_ = {};
}

void EdgeHttp::answered(const Finished& finished, std::span<const float> confidences,
                        const LiveFigures::Moment& moment) {
  SPLITEE_CHECK(!in_progress_.empty());
  const JobRow row = std::move(in_progress_.front());
  in_progress_.pop_front();
  live_.add(finished.record, moment);
  row.job->finish(row.row,
                  answer_of(finished.record, confidences, row.job->served().network->info()));
}

bool EdgeHttp::figures_wanted() const {
  const std::lock_guard lock(mutex_);
  return !waiting_figures_.empty();
}

void EdgeHttp::answer_figures(const Summary& summary, const LiveFigures::Moment& moment) {
  std::vector<std::pair<Figures, std::function<void(std::string)>>> waiting;
  {
    const std::lock_guard lock(mutex_);
    waiting.swap(waiting_figures_);
  }
  for (const auto& [which, done] : waiting) {
    done(which == Figures::kLive ? live_.json(summary, moment, queue_.rows_waiting())
                                 : live_.metrics(summary, moment, queue_.rows_waiting()));
  }
}

void EdgeHttp::close() {
  service_->set_draining();
  queue_.close();
}

void EdgeHttp::drain() {
  service_->drain(std::chrono::milliseconds(0));
}

}  // namespace splitee::tools
