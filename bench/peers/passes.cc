#include "bench/peers/passes.h"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <span>
#include <vector>

#include "bench/peers/network.h"
#include "kernels/kernels.h"
#include "runtime/bert/text_input.h"
#include "runtime/loader/loader.h"

namespace splitee::bench {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "peers_bench: %s\n", message.c_str());
  std::exit(1);
}

void check(const Status& status) {
  if (!status.ok()) fail(status.message());
}

template <class Value>
std::vector<Value> read_values(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) fail(path + ": cannot be read");
  std::vector<Value> values(static_cast<std::size_t>(file.tellg()) / sizeof(Value));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(values.size() * sizeof(Value)));
  if (!file) fail(path + ": cannot be read");
  return values;
}

// A file's values as samples of one size.
template <class Value>
class Samples {
 public:
  Samples(const std::string& path, std::size_t size)
      : values_(read_values<Value>(path)), size_(size) {
    if (size == 0 || values_.empty() || values_.size() % size != 0) {
      fail(path + ": " + std::to_string(values_.size()) + " values, a sample has " +
           std::to_string(size));
    }
  }

  std::size_t count() const { return values_.size() / size_; }
  std::span<const Value> operator[](std::size_t i) const {
    return std::span(values_).subspan(i * size_, size_);
  }

 private:
  std::vector<Value> values_;
  std::size_t size_;
};

// A network on activations: what layer 0 would have made.
class ActivationsSide {
 public:
  explicit ActivationsSide(const PassesOptions& options)
      : network_(open(options)),
        info_(network_->info()),
        engine_(network_->make_engine(options.threads)),
        samples_(options.inputs, info_.sizes[0].rows * info_.sizes[0].cols),
        last_alone_(options.last_alone) {}

  std::size_t samples() const { return samples_.count(); }
  const std::vector<float>& probabilities() const { return probabilities_; }

  void run(std::size_t sample) {
    probabilities_.clear();
    check(engine_->resume(0, info_.sizes[0].rows, samples_[sample]));
    for (std::size_t exit = last_alone_ ? info_.exits() - 1 : 0; exit < info_.exits(); ++exit) {
      check(engine_->run_to(info_.exit_layers[exit], true));
      engine_->finish_layer();
      const std::span<const float> answer = engine_->evaluate_exit(exit);
      probabilities_.insert(probabilities_.end(), answer.begin(), answer.end());
    }
  }

 private:
  static std::shared_ptr<const runtime::Network> open(const PassesOptions& options) {
    const kernels::Kernels* kernels = kernels::find_target(options.target);
    if (kernels == nullptr) fail("this CPU has no target " + options.target);
    auto network = runtime::open_network(options.gguf, *kernels);
    if (!network.ok()) fail(network.status().message());
    return *network;
  }

  std::shared_ptr<const runtime::Network> network_;
  const runtime::NetworkInfo& info_;
  std::unique_ptr<runtime::Engine> engine_;
  Samples<float> samples_;
  bool last_alone_;
  std::vector<float> probabilities_;
};

// A network on token ids.
class IdsSide {
 public:
  explicit IdsSide(const PassesOptions& options)
      : network_(open_our_model(options.gguf, options.target), options.threads),
        samples_(options.ids, options.tokens) {}

  std::size_t samples() const { return samples_.count(); }
  std::vector<float> probabilities() const { return network_.probabilities(); }
  void run(std::size_t sample) { network_.run(samples_[sample]); }

 private:
  OurNetwork network_;
  Samples<std::int32_t> samples_;
};

// A network on token ids of several lengths, all at once: one "sample".
class BatchSide {
 public:
  explicit BatchSide(const PassesOptions& options)
      : model_(open_our_model(options.gguf, options.target)),
        engine_(model_->make_batch_engine(options.lengths.size(), options.threads)) {
    const std::vector<std::int32_t> ids = read_values<std::int32_t>(options.ids);
    const std::vector<std::int32_t> types(ids.size(), 0);
    std::size_t begin = 0;
    for (const std::size_t length : options.lengths) {
      if (begin + length > ids.size()) fail(options.ids + ": shorter than the lengths");
      inputs_.push_back(runtime::pack(std::span(ids).subspan(begin, length),
                                      std::span(types).subspan(begin, length)));
      samples_.push_back({.input = inputs_.back().view()});
      begin += length;
    }
    for (const runtime::BatchSample& sample : samples_) check(engine_->check(sample));
  }

  std::size_t samples() const { return 1; }
  void run(std::size_t) { check(engine_->run(samples_)); }
  std::vector<float> probabilities() const {
    std::vector<float> all;
    for (std::size_t i = 0; i < samples_.size(); ++i) {
      const std::span<const float> answer = engine_->probabilities(i);
      all.insert(all.end(), answer.begin(), answer.end());
    }
    return all;
  }

 private:
  std::shared_ptr<const runtime::BertNetwork> model_;
  std::unique_ptr<runtime::BatchEngine> engine_;
  std::vector<runtime::Prepared> inputs_;
  std::vector<runtime::BatchSample> samples_;
};

template <class Value>
void print_line(const std::vector<Value>& values) {
  for (const Value value : values) std::printf("%.9g ", static_cast<double>(value));
  std::printf("\n");
  std::fflush(stdout);
}

template <class Side>
void answer_and_time(Side side) {
  std::vector<float> answers;
  for (std::size_t sample = 0; sample < side.samples(); ++sample) {
    side.run(sample);
    const std::vector<float> answer = side.probabilities();
    answers.insert(answers.end(), answer.begin(), answer.end());
  }
  print_line(answers);
  for (std::size_t count = 0; std::cin >> count;) {
    std::vector<double> milliseconds;
    for (std::size_t i = 0; i < count; ++i) {
      const Clock::time_point start = Clock::now();
      side.run(0);
      milliseconds.push_back(
          std::chrono::duration<double, std::milli>(Clock::now() - start).count());
    }
    print_line(milliseconds);
  }
}

}  // namespace

void passes(const PassesOptions& options) {
  if (options.ids.empty() == options.inputs.empty()) fail("give either --inputs or --ids");
  if (!options.lengths.empty()) {
    answer_and_time(BatchSide(options));
  } else if (options.ids.empty()) {
    answer_and_time(ActivationsSide(options));
  } else {
    answer_and_time(IdsSide(options));
  }
}

}  // namespace splitee::bench
