#include "tools/splitee/all_exits.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <thread>

#include "runtime/network.h"
#include "tools/common/progress.h"

namespace splitee::tools {

namespace {

class Runner {
 public:
  Runner(const runtime::Network& network, std::span<const Sample> samples, bool progress,
         StopSignal* stop, RunSample run)
      : network_(network),
        samples_(samples),
        progress_(shown_if(progress)),
        stop_(stop),
        run_(std::move(run)) {}

  Result<std::size_t> run(std::size_t threads) {
    std::vector<std::thread> workers;
    for (std::size_t i = 1; i < threads; ++i) workers.emplace_back([this] { work(nullptr); });
    work(stop_);
    for (std::thread& worker : workers) worker.join();
    progress_.finish();
    return status_.ok() ? Result<std::size_t>(done_) : status_;
  }

 private:
  // A sample that was taken is finished: those done are the first ones.
  void work(StopSignal* stop) {
    const std::unique_ptr<runtime::Engine> engine = network_.make_engine();
    for (std::size_t i = next_++; i < samples_.size(); i = next_++) {
      Status status = begin(*engine, samples_[i]);
      if (status.ok()) status = run_(*engine, i);
      const std::lock_guard lock(mutex_);
      if (!status.ok()) {
        status_ = status;
        next_ = samples_.size();
        return;
      }
      ++done_;
      if (stop != nullptr && stop->received()) next_ = samples_.size();
      progress_.update(done_, samples_.size(), done_);
    }
  }

  Status begin(runtime::Engine& engine, const Sample& sample) const {
    const Result<runtime::Prepared> input = network_.prepare(sample.input);
    const Status status = input.ok() ? engine.begin(input->view()) : input.status();
    if (status.ok() || sample.input.name.empty()) return status;
    return {status.code(), sample.input.name + ": " + status.message()};
  }

  const runtime::Network& network_;
  std::span<const Sample> samples_;
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;  // of the members below
  Progress progress_;
  std::size_t done_ = 0;
  Status status_;
  StopSignal* stop_;  // looked at in the thread of run() alone
  const RunSample run_;
};

// Probabilities of all exits of the sample begun.
Result<std::vector<float>> evaluate_exits(runtime::Engine& engine,
                                          std::span<const std::size_t> layers) {
  std::vector<float> probabilities;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (Status status = engine.run_to(layers[i]); !status.ok()) return status;
    engine.finish_layer();
    const std::span<const float> exit = engine.evaluate_exit(i);
    probabilities.insert(probabilities.end(), exit.begin(), exit.end());
  }
  return probabilities;
}

RunSample visiting(const runtime::Network& network, const VisitSample& visit) {
  return [&](runtime::Engine& engine, std::size_t sample) -> Status {
    const Result<std::vector<float>> exits = evaluate_exits(engine, network.info().exit_layers);
    if (!exits.ok()) return exits.status();
    visit(sample, *exits);
    return {};
  };
}

}  // namespace

Result<std::vector<Sample>> read_all_samples(const std::string& path, InputFormat format,
                                             const runtime::NetworkInfo& info) {
  Result<LineReader> lines = LineReader::open(path);
  if (!lines.ok()) return lines.status();
  Result<SampleReader> reader = SampleReader::open(std::move(*lines), format, info);
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

Status for_all_samples(const runtime::Network& network, std::span<const Sample> samples,
                       std::size_t threads, bool progress, const RunSample& run) {
  return Runner(network, samples, progress, nullptr, run).run(threads).status();
}

Status for_all_exits(const runtime::Network& network, std::span<const Sample> samples,
                     std::size_t threads, bool progress, const VisitSample& visit) {
  return Runner(network, samples, progress, nullptr, visiting(network, visit))
      .run(threads)
      .status();
}

Result<std::size_t> for_all_exits_until(StopSignal& stop, const runtime::Network& network,
                                        std::span<const Sample> samples, std::size_t threads,
                                        bool progress, const VisitSample& visit) {
  return Runner(network, samples, progress, &stop, visiting(network, visit)).run(threads);
}

}  // namespace splitee::tools
