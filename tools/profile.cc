#include <algorithm>
#include <memory>
#include <span>

#include <fmt/format.h>

#include "runtime/engine.h"
#include "runtime/hash.h"
#include "tools/clock.h"
#include "tools/commands.h"
#include "tools/console.h"
#include "tools/costs.h"
#include "tools/flags.h"
#include "tools/output_file.h"

namespace splitee::tools {

namespace {

using runtime::Result;
using runtime::Status;

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

// One pass with every layer for all tokens, and every exit; the total counts the last exit only.
Status measure_once(runtime::Engine& engine, const runtime::Encoding& input, Times& times) {
  const std::vector<std::size_t>& exit_layers = engine.model().config().exit_layers;
  Stopwatch watch;
  const Status status = engine.begin(input.ids, input.types);
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

// One pass in which every exit is read as soon as its first token is there.
Status measure_lazily_once(runtime::Engine& engine, const runtime::Encoding& input, Times& times) {
  const std::vector<std::size_t>& exit_layers = engine.model().config().exit_layers;
  if (Status s = engine.begin(input.ids, input.types); !s.ok()) return s;
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

// A sample of `seq` tokens; which words they are makes no difference to the time.
runtime::Encoding make_input(const runtime::ModelConfig& config, std::size_t seq) {
  runtime::Encoding input;
  for (std::size_t i = 0; i < seq; ++i) {
    input.ids.push_back(static_cast<std::int32_t>(i * 7919 % config.vocab));
  }
  input.types.assign(seq, 0);
  return input;
}

Result<CostFile> measure(const Flags& flags, const std::shared_ptr<const runtime::Model>& model) {
  const runtime::ModelConfig& config = model->config();
  runtime::Engine engine(model, flags.model.threads);
  const runtime::Encoding input = make_input(config, flags.seq);
  Times times;
  times.layers.resize(config.layers);
  times.exits.resize(config.exit_layers.size());
  times.lazy_exits = times.rests = times.exits;
  Times warm_up = times;
  Status status = measure_once(engine, input, warm_up);
  for (std::size_t i = 0; status.ok() && i < flags.repeats; ++i) {
    status = measure_once(engine, input, times);
    if (status.ok()) status = measure_lazily_once(engine, input, times);
  }
  if (!status.ok()) return status;
  CostFile costs;
  costs.model_hash = runtime::hash_to_string(model->hash());
  costs.target = model->kernels().target;
  costs.dtype = config.dtype;
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

std::string to_text(const CostFile& costs, const std::vector<std::size_t>& exit_layers) {
  std::string text;
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "{} tokens, {} thread(s), kernels {}, weights {}; medians in microseconds\n",
                 costs.seq, costs.threads, costs.target, costs.dtype);
  fmt::format_to(out, "{:<10} {:>10.1f}\n", "embedding", costs.embedding_us);
  for (std::size_t i = 0; i < costs.layers_us.size(); ++i) {
    fmt::format_to(out, "layer {:<4} {:>10.1f}\n", i + 1, costs.layers_us[i]);
  }
  for (std::size_t i = 0; i < costs.exits_us.size(); ++i) {
    fmt::format_to(out,
                   "exit {:<5} {:>10.1f}   with its layer for the first token {:.1f}, the other "
                   "tokens {:.1f}\n",
                   exit_layers[i], costs.exits_us[i], costs.lazy_exits_us[i],
                   costs.rest_layers_us[i]);
  }
  fmt::format_to(out, "{:<10} {:>10.1f}\n", "total", costs.total_us);
  fmt::format_to(out, "lambda1 : lambda2 = {0:.3f} : {1:.3f}\n", layer_share(costs),
                 1 - layer_share(costs));
  return text;
}

int profile(Flags flags, bool seq_given) {
  const Status writable = check_not_input(flags.output, {flags.model.path});
  if (!writable.ok()) return fail("splitee profile", writable);
  Result<std::shared_ptr<const runtime::Model>> model =
      open_model(flags.model, {.preload = runtime::kAllLayers});
  if (!model.ok()) return fail("splitee profile", model.status());
  const std::size_t max_tokens = (*model)->config().max_tokens;
  if (!seq_given) flags.seq = std::min(flags.seq, max_tokens);
  if (flags.seq > max_tokens) {
    return fail(
        "splitee profile",
        Status(runtime::Code::kInvalidArgument,
               fmt::format("--seq {}: this model takes at most {} tokens", flags.seq, max_tokens)));
  }
  Result<CostFile> costs = measure(flags, *model);
  if (!costs.ok()) return fail("splitee profile", costs.status());
  Status status = print_output(flags.json ? cost_file_json(*costs)
                                          : to_text(*costs, (*model)->config().exit_layers));
  if (status.ok() && !flags.output.empty()) status = write_cost_file(flags.output, *costs);
  return finish("splitee profile", status);
}

}  // namespace

void add_profile(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "profile", "Measures every layer and exit on this machine: medians in microseconds.");
  const auto flags = std::make_shared<Flags>();
  add_model_flags(*command, flags->model, "threads that one sample's layers use");
  CLI::Option* seq = command
                         ->add_option("--seq", flags->seq,
                                      "tokens of the sample (default: 128, or the model's maximum)")
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
      "its layer for the first token, rest_layers_us what that layer takes for the other tokens "
      "if\n"
      "the sample goes on (arrays, one per exit).");
  command->callback([flags, seq, &exit_code] { exit_code = profile(*flags, seq->count() > 0); });
}

}  // namespace splitee::tools
