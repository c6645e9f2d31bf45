#include <algorithm>
#include <memory>
#include <span>

#include <fmt/format.h>

#include "base/clock.h"
#include "base/hash.h"
#include "runtime/network.h"
#include "tools/common/console.h"
#include "tools/common/costs.h"
#include "tools/common/flags.h"
#include "tools/common/output_file.h"
#include "tools/splitee/commands.h"

namespace splitee::tools {

namespace {

struct Flags {
  ModelFlags model;
  std::size_t seq = 128;
  std::size_t repeats = 50;
  bool json = false;
  std::string output;
};

double microseconds(const Stopwatch& watch) {
  return watch.elapsed_seconds() * 1e6;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Times of the repeats, per step.
struct Times {
  std::vector<double> embedding, total;
  std::vector<std::vector<double>> layers, exits, lazy_exits, rests;
};

std::vector<double> medians(const std::vector<std::vector<double>>& times) {
  std::vector<double> result;
  for (const std::vector<double>& values : times) result.push_back(median(values));
  return result;
}

// One pass with every layer as a whole, and every exit; the total counts the last exit only.
Status measure_once(runtime::Engine& engine, runtime::PreparedView input,
                    const std::vector<std::size_t>& exit_layers, Times& times) {
  Stopwatch watch;
  const Status status = engine.begin(input);
  if (!status.ok()) return status;
  times.embedding.push_back(microseconds(watch));
  double total = times.embedding.back();
  std::size_t exit = 0;
  for (std::size_t layer = 1; layer <= times.layers.size(); ++layer) {
    watch = Stopwatch();
    if (Status s = engine.run_to(layer); !s.ok()) return s;
    engine.finish_layer();
    times.layers[layer - 1].push_back(microseconds(watch));
    total += times.layers[layer - 1].back();
    if (exit_layers[exit] != layer) continue;
    watch = Stopwatch();
    engine.evaluate_exit(exit);
    times.exits[exit++].push_back(microseconds(watch));
  }
  times.total.push_back(total + times.exits.back().back());
  return {};
}

// One pass in which every exit is read as soon as there is enough of its layer.
Status measure_lazily_once(runtime::Engine& engine, runtime::PreparedView input,
                           const std::vector<std::size_t>& exit_layers, Times& times) {
  if (Status s = engine.begin(input); !s.ok()) return s;
  for (std::size_t exit = 0; exit < exit_layers.size(); ++exit) {
    // All but the exit's own layer.
    if (Status s = engine.run_to(exit_layers[exit]); !s.ok()) return s;
    Stopwatch watch;
    engine.evaluate_exit(exit);
    times.lazy_exits[exit].push_back(microseconds(watch));
    watch = Stopwatch();
    engine.finish_layer();
    times.rests[exit].push_back(microseconds(watch));
  }
  return {};
}

Result<CostFile> measure(const Flags& flags, const runtime::Network& network) {
  const runtime::NetworkInfo& info = network.info();
  const std::unique_ptr<runtime::Engine> engine = network.make_engine(flags.model.threads);
  // What is in the sample makes no difference to the time.
  const runtime::Prepared input = network.random_input(flags.seq, 1);
  Times times;
  times.layers.resize(info.layers());
  times.exits.resize(info.exits());
  times.lazy_exits = times.rests = times.exits;
  Times warm_up = times;
  Status status = measure_once(*engine, input.view(), info.exit_layers, warm_up);
  for (std::size_t i = 0; status.ok() && i < flags.repeats; ++i) {
    status = measure_once(*engine, input.view(), info.exit_layers, times);
    if (status.ok()) status = measure_lazily_once(*engine, input.view(), info.exit_layers, times);
  }
  if (!status.ok()) return status;
  CostFile costs;
  costs.model_hash = hash_to_string(network.hash());
  costs.target = network.kernels().target;
  costs.dtype = info.dtype;
  costs.seq = flags.seq;
  costs.threads = flags.model.threads;
  costs.embedding_us = median(times.embedding);
  costs.total_us = median(times.total);
  costs.layers_us = medians(times.layers);
  costs.exits_us = medians(times.exits);
  costs.lazy_exits_us = medians(times.lazy_exits);
  costs.rest_layers_us = medians(times.rests);
  return costs;
}

std::string to_text(const CostFile& costs, const runtime::NetworkInfo& info) {
  std::string text;
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "{} {}, {} thread(s), kernels {}, weights {}; medians in microseconds\n",
                 costs.seq, info.unit, costs.threads, costs.target, costs.dtype);
  fmt::format_to(out, "{:<10} {:>10.1f}\n", "embedding", costs.embedding_us);
  for (std::size_t i = 0; i < costs.layers_us.size(); ++i) {
    fmt::format_to(out, "layer {:<4} {:>10.1f}\n", i + 1, costs.layers_us[i]);
  }
  for (std::size_t i = 0; i < costs.exits_us.size(); ++i) {
    fmt::format_to(out,
                   "exit {:<5} {:>10.1f}   with as much of its layer as it reads {:.1f}, the rest "
                   "{:.1f}\n",
                   info.exit_layers[i], costs.exits_us[i], costs.lazy_exits_us[i],
                   costs.rest_layers_us[i]);
  }
  fmt::format_to(out, "{:<10} {:>10.1f}\n", "total", costs.total_us);
  fmt::format_to(out, "lambda1 : lambda2 = {0:.3f} : {1:.3f}\n", layer_share(costs),
                 1 - layer_share(costs));
  return text;
}

int profile(Flags flags, bool seq_given) {
  Status apart = check_whole_output(flags.output, {flags.model.path});
  if (!apart.ok()) return fail("splitee profile", apart);
  Result<std::shared_ptr<const runtime::Network>> network =
      open_model(flags.model, {.preload = runtime::kAllLayers});
  if (!network.ok()) return fail("splitee profile", network.status());
  const runtime::NetworkInfo& info = (*network)->info();
  if (!seq_given) flags.seq = std::min(flags.seq, info.max_length);
  if (flags.seq > info.max_length) {
    return fail("splitee profile", Status(Code::kInvalidArgument,
                                          fmt::format("--seq {}: this model takes at most {} {}",
                                                      flags.seq, info.max_length, info.unit)));
  }
  Result<CostFile> costs = measure(flags, **network);
  if (!costs.ok()) return fail("splitee profile", costs.status());
  Status status = print_output(flags.json ? cost_file_json(*costs) : to_text(*costs, info));
  if (status.ok() && !flags.output.empty()) status = write_cost_file(flags.output, *costs);
  return finish("splitee profile", status);
}

}  // namespace

void add_profile(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "profile", "Measures every layer and exit on this machine: medians in microseconds.");
  const auto flags = std::make_shared<Flags>();
  add_model_flags(*command, flags->model, "threads that one sample's layers use");
  CLI::Option* seq =
      command
          ->add_option(
              "--seq", flags->seq,
              "length of the sample, in word pieces of a text; a row of numbers has 1, and "
              "images are of the model's own size "
              "(default: 128, or the model's maximum)")
          ->type_name("N")
          ->check(number_within(1, 1e6));
  command->add_option("--repeats", flags->repeats, "passes to take the median of")
      ->type_name("N")
      ->check(number_within(1, 1e6))
      ->capture_default_str();
  command->add_flag("--json", flags->json, "print JSON: the cost file's text");
  command->add_option("--output", flags->output, "write a cost file for splitee-edge --costs")
      ->type_name("FILE");
  command->footer(
      "\nJSON: embedding_us, layers_us, exits_us (arrays), total_us (embedding, all layers and "
      "the\n"
      "last exit), seq, threads, target, dtype (of the weights in the file), model_hash. A sample\n"
      "that ends at an exit does not pay its layer in full: lazy_exits_us is the exit together "
      "with\n"
      "as much of its layer as it reads, rest_layers_us what the rest of that layer takes if the\n"
      "sample goes on (arrays, one per exit).");
  command->callback([flags, seq, &exit_code] { exit_code = profile(*flags, seq->count() > 0); });
}

}  // namespace splitee::tools
