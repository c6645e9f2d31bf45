#include "tools/all_exits.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "runtime/engine.h"
#include "tools/progress.h"

namespace splitee::tools {

using runtime::Result;
using runtime::Status;

namespace {

class Runner {
 public:
  Runner(std::shared_ptr<const runtime::Model> model, std::span<const Sample> samples,
         bool progress, const VisitSample& visit)
      : model_(std::move(model)), samples_(samples), progress_(progress), visit_(visit) {}

  Status run(std::size_t threads) {
    std::vector<std::thread> workers;
    for (std::size_t i = 1; i < threads; ++i) workers.emplace_back([this] { work(); });
    work();
    for (std::thread& worker : workers) worker.join();
    progress_.finish();
    return status_;
  }

 private:
  void work() {
    runtime::Engine engine(model_, 1);
    std::vector<float> probabilities;
    for (std::size_t i = next_++; i < samples_.size(); i = next_++) {
      const Status status = run_sample(engine, samples_[i], probabilities);
      if (status.ok()) visit_(i, probabilities);
      const std::lock_guard lock(mutex_);
      if (!status.ok()) {
        status_ = status;
        next_ = samples_.size();
        return;
      }
      ++done_;
      progress_.update(done_, samples_.size(), done_);
    }
  }

  Status run_sample(runtime::Engine& engine, const Sample& sample,
                    std::vector<float>& probabilities) const {
    const runtime::ModelConfig& config = model_->config();
    std::string_view text2;
    if (sample.text2) text2 = *sample.text2;
    const runtime::Encoding input =
        model_->tokenizer().encode(sample.text, sample.text2 ? &text2 : nullptr, config.max_tokens);
    if (Status status = engine.begin(input.ids, input.types); !status.ok()) return status;
    probabilities.clear();
    for (std::size_t i = 0; i < config.exit_layers.size(); ++i) {
      if (Status status = engine.run_to(config.exit_layers[i]); !status.ok()) return status;
      engine.finish_layer();
      const std::span<const float> exit = engine.evaluate_exit(i);
      probabilities.insert(probabilities.end(), exit.begin(), exit.end());
    }
    return {};
  }

  std::shared_ptr<const runtime::Model> model_;
  std::span<const Sample> samples_;
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;  // of the members below
  Progress progress_;
  std::size_t done_ = 0;
  Status status_;
  const VisitSample& visit_;
};

}  // namespace

Result<std::vector<Sample>> read_all_samples(const std::string& path, InputFormat format,
                                             const runtime::ModelConfig& config) {
  Result<LineReader> lines = LineReader::open(path);
  if (!lines.ok()) return lines.status();
  Result<SampleReader> reader = SampleReader::open(std::move(*lines), format, config.labels);
  if (!reader.ok()) return reader.status();
  std::vector<Sample> samples;
  Sample sample;
  for (;;) {
    Result<bool> more = reader->next(sample);
    if (!more.ok()) return more.status();
    if (!*more) return samples;
    samples.push_back(std::move(sample));
  }
}

Status for_all_exits(std::shared_ptr<const runtime::Model> model, std::span<const Sample> samples,
                     std::size_t threads, bool progress, const VisitSample& visit) {
  return Runner(std::move(model), samples, progress, visit).run(threads);
}

}  // namespace splitee::tools
