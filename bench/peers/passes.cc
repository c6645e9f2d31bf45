#include "bench/peers/passes.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "runtime/loader/loader.h"

namespace splitee::bench {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "peers_bench: %s\n", message.c_str());
  std::exit(1);
}

std::vector<float> read_floats(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) fail(path + ": cannot be read");
  std::vector<float> values(static_cast<std::size_t>(file.tellg()) / sizeof(float));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()),
            static_cast<std::streamsize>(values.size() * sizeof(float)));
  if (!file) fail(path + ": cannot be read");
  return values;
}

class Passes {
 public:
  Passes(const runtime::Network& network, std::size_t threads, bool last_alone)
      : info_(network.info()), engine_(network.make_engine(threads)), last_alone_(last_alone) {}

  // Probabilities of the evaluated exits are added to `found`, where it is wanted.
  void run(std::span<const float> input, std::vector<float>* found) {
    check(engine_->resume(0, info_.sizes[0].rows, input));
    for (std::size_t exit = last_alone_ ? info_.exits() - 1 : 0; exit < info_.exits(); ++exit) {
      check(engine_->run_to(info_.exit_layers[exit], true));
      engine_->finish_layer();
      const std::span<const float> answer = engine_->evaluate_exit(exit);
      if (found != nullptr) found->insert(found->end(), answer.begin(), answer.end());
    }
  }

 private:
  static void check(const Status& status) {
    if (!status.ok()) fail(status.message());
  }

  const runtime::NetworkInfo& info_;
  std::unique_ptr<runtime::Engine> engine_;
  bool last_alone_;
};

template <class Value>
void print_line(const std::vector<Value>& values) {
  for (const Value value : values) std::printf("%.9g ", static_cast<double>(value));
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace

void passes(const PassesOptions& options) {
  const kernels::Kernels* kernels = kernels::find_target(options.target);
  if (kernels == nullptr) fail("this CPU has no target " + options.target);
  const auto network = runtime::open_network(options.gguf, *kernels);
  if (!network.ok()) fail(network.status().message());
  const runtime::LayerSizes& input = (*network)->info().sizes[0];
  const std::size_t size = input.rows * input.cols;
  const std::vector<float> values = read_floats(options.inputs);
  if (size == 0 || values.empty() || values.size() % size != 0) {
    fail(options.inputs + ": " + std::to_string(values.size()) + " values, a sample has " +
         std::to_string(size));
  }
  Passes side(**network, options.threads, options.last_alone);
  std::vector<float> answers;
  for (std::size_t at = 0; at < values.size(); at += size) {
    side.run(std::span(values).subspan(at, size), &answers);
  }
  print_line(answers);
  const std::span<const float> first = std::span(values).first(size);
  for (std::size_t count = 0; std::cin >> count;) {
    std::vector<double> milliseconds;
    for (std::size_t i = 0; i < count; ++i) {
      const Clock::time_point start = Clock::now();
      side.run(first, nullptr);
      milliseconds.push_back(
          std::chrono::duration<double, std::milli>(Clock::now() - start).count());
    }
    print_line(milliseconds);
  }
}

}  // namespace splitee::bench
