// Rows per layer, exit, way to the first exit and whole model, for every target that this CPU has
// and every number of tokens in bench/shapes.txt (--shapes=FILE names another), on model files
// (--model=FILE, may be repeated; default models/default.gguf) and --threads=N. Each row stands
// beside the peak of its target and of the number format of its weights. Before a model is timed,
// all its layers and exits are compared with the scalar target's (tests/runtime/layer_check.h).
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "bench/support.h"
#include "runtime/bert/engine.h"
#include "tests/runtime/layer_check.h"

namespace splitee::bench {
namespace {

using runtime::BertEngine;
using runtime::BertNetwork;
using runtime::ModelConfig;

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "engine_bench: %s\n", message.c_str());
  std::exit(1);
}

std::shared_ptr<const BertNetwork> open_model(const std::string& path,
                                              const kernels::Kernels& kernels) {
  auto model = BertNetwork::open(path, kernels);
  if (!model.ok()) fail(model.status().message());
  return *model;
}

struct Sample {
  std::vector<std::int32_t> ids, types;
};

Sample random_sample(const ModelConfig& config, std::size_t tokens) {
  std::mt19937 random(1);
  std::uniform_int_distribution<std::int32_t> id(0, static_cast<std::int32_t>(config.vocab) - 1);
  Sample sample;
  for (std::size_t i = 0; i < tokens; ++i) sample.ids.push_back(id(random));
  sample.types.assign(tokens, 0);
  return sample;
}

void begin(BertEngine& engine, const Sample& sample) {
  if (const auto status = engine.begin(sample.ids, sample.types); !status.ok()) {
    fail(status.message());
  }
}

void run_layer(BertEngine& engine, std::size_t layer) {
  if (const auto status = engine.run_to(layer); !status.ok()) fail(status.message());
  engine.finish_layer();
}

// Every exit's probabilities, all tokens of every layer.
std::vector<float> run_all(BertEngine& engine, const Sample& sample) {
  begin(engine, sample);
  const std::vector<std::size_t>& exit_layers = engine.model().config().exit_layers;
  std::vector<float> result;
  for (std::size_t exit = 0; exit < exit_layers.size(); ++exit) {
    run_layer(engine, exit_layers[exit]);
    const auto answer = engine.evaluate_exit(exit);
    result.insert(result.end(), answer.begin(), answer.end());
  }
  return result;
}

// The models that rows take turns with are kept open: one per target and file.
struct Subject {
  std::string name, target, dtype;
  std::shared_ptr<const BertNetwork> model, scalar;
  std::unique_ptr<BertEngine> engine;
};

// What differs from the scalar target, layer by layer; empty where nothing does.
std::string difference_from_scalar(const Subject& subject, const Sample& sample) {
  BertEngine reference(subject.scalar);
  return testing::first_large(testing::compare_layers(reference, *subject.engine, sample.ids));
}

double layer_operations(const ModelConfig& config, std::size_t tokens) {
  const auto m = static_cast<double>(tokens), hidden = static_cast<double>(config.hidden);
  const auto ffn = static_cast<double>(config.ffn);
  return 2 * m * (4 * hidden * hidden + 2 * hidden * ffn) + 4 * m * m * hidden;
}

double exit_operations(const ModelConfig& config) {
  const auto hidden = static_cast<double>(config.hidden);
  return 2 * hidden * (hidden + static_cast<double>(config.classes));
}

// The layers in turn, so that their weights come from where a whole model's come from; the time of
// one layer is the time of all, divided.
void bench_layers(benchmark::State& state, BertEngine& engine, const Sample& sample) {
  const ModelConfig& config = engine.model().config();
  begin(engine, sample);
  const std::vector<float> input(engine.activation().begin(), engine.activation().end());
  std::size_t layer = config.layers;
  for (auto _ : state) {
    if (layer == config.layers) {
      state.PauseTiming();
      if (!engine.resume(0, sample.ids.size(), input).ok()) fail("resume");
      layer = 0;
      state.ResumeTiming();
    }
    run_layer(engine, ++layer);
  }
}

// From the embeddings to the first exit, which reads one token: keys and values for all tokens, the
// rest of the layer for that one, and the exit.
void bench_first_exit(benchmark::State& state, BertEngine& engine, const Sample& sample) {
  for (auto _ : state) {
    begin(engine, sample);
    if (!engine.run_to(engine.model().config().exit_layers.front()).ok()) fail("run_to");
    benchmark::DoNotOptimize(engine.evaluate_exit(0).data());
  }
}

void bench_exit(benchmark::State& state, BertEngine& engine, const Sample& sample) {
  const std::vector<std::size_t>& exit_layers = engine.model().config().exit_layers;
  begin(engine, sample);
  run_layer(engine, exit_layers.front());
  for (auto _ : state) benchmark::DoNotOptimize(engine.evaluate_exit(0).data());
}

void add_rows(const std::shared_ptr<Subject>& subject, std::size_t tokens) {
  const ModelConfig& config = subject->model->config();
  const Sample sample = random_sample(config, tokens);
  const std::string suffix =
      "/" + subject->target + "/" + subject->name + "/tokens:" + std::to_string(tokens);
  const auto count = [subject](benchmark::State& state, double operations) {
    count_operations(state, operations, subject->dtype, subject->target);
  };
  add_row("model" + suffix, [=](benchmark::State& state) {
    if (const std::string large = difference_from_scalar(*subject, sample); !large.empty()) {
      return state.SkipWithError(large.c_str());
    }
    for (auto _ : state) benchmark::DoNotOptimize(run_all(*subject->engine, sample).data());
    const ModelConfig& shape = subject->model->config();
    count(state, static_cast<double>(shape.layers) * layer_operations(shape, tokens) +
                     static_cast<double>(shape.exit_layers.size()) * exit_operations(shape));
  });
  add_row("layer" + suffix, [=](benchmark::State& state) {
    bench_layers(state, *subject->engine, sample);
    count(state, layer_operations(subject->model->config(), tokens));
  });
  add_row("first_exit" + suffix,
          [=](benchmark::State& state) { bench_first_exit(state, *subject->engine, sample); });
  add_row("exit" + suffix, [=](benchmark::State& state) {
    bench_exit(state, *subject->engine, sample);
    count(state, exit_operations(subject->model->config()));
  });
}

std::string base_name(const std::string& path) {
  const std::size_t slash = path.rfind('/'), dot = path.rfind('.');
  const std::size_t begin = slash == std::string::npos ? 0 : slash + 1;
  return path.substr(begin, dot == std::string::npos || dot < begin ? dot : dot - begin);
}

void add_model(const std::string& path, const std::vector<std::size_t>& tokens,
               std::size_t threads) {
  const auto scalar = open_model(path, *kernels::compiled_targets().back());
  for (const kernels::Kernels* kernels : kernels::compiled_targets()) {
    if (!supported(*kernels)) continue;
    const auto subject = std::make_shared<Subject>();
    subject->target = kernels->target;
    subject->model = open_model(path, *kernels);
    subject->scalar = scalar;
    subject->dtype = subject->model->config().dtype;
    subject->name = base_name(path);
    subject->engine = std::make_unique<BertEngine>(subject->model, threads);
    for (const std::size_t count : tokens) {
      if (count <= subject->model->config().max_tokens) add_rows(subject, count);
    }
  }
}

}  // namespace
}  // namespace splitee::bench

int main(int argc, char** argv) {
  namespace bench = splitee::bench;
  const std::vector<std::string> shape_paths = bench::take_flag(argc, argv, "shapes");
  std::vector<std::string> model_paths = bench::take_flag(argc, argv, "model");
  const std::vector<std::string> threads = bench::take_flag(argc, argv, "threads");
  if (model_paths.empty()) model_paths.push_back("models/default.gguf");
  const bench::Shapes shapes =
      bench::read_shapes(shape_paths.empty() ? "bench/shapes.txt" : shape_paths[0]);
  for (const std::string& path : model_paths) {
    bench::add_model(path, shapes.tokens,
                     threads.empty() ? 1 : std::strtoul(threads[0].c_str(), nullptr, 10));
  }
  return bench::run_benchmarks(argc, argv);
}
