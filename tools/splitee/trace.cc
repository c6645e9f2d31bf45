#include "policy/replay/trace.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <memory>
#include <span>

#include <fmt/format.h>

#include "policy/policy.h"
#include "tools/common/console.h"
#include "tools/common/flags.h"
#include "tools/common/output_file.h"
#include "tools/splitee/all_exits.h"
#include "tools/splitee/commands.h"
#include "tools/splitee/compressed_file.h"

namespace splitee::tools {

namespace {

using policy::ClassNumber;

struct Flags {
  ModelFlags model;
  std::string input = "-", output;
  InputFormat format = InputFormat::kOfModel;
  std::string shard = "1/1";
  bool probabilities = false, progress = false;
};

struct Shard {
  std::size_t index = 1, count = 1;  // 1-based
  // Samples of this shard out of `total`: [begin, end).
  std::size_t begin(std::size_t total) const {
    return total / count * (index - 1) + extra(total, index - 1);
  }
  std::size_t end(std::size_t total) const { return total / count * index + extra(total, index); }

 private:
  // The first `total % count` shards have a sample more.
  std::size_t extra(std::size_t total, std::size_t before) const {
    return std::min(total % count, before);
  }
};

Result<Shard> parse_shard(const std::string& text) {
  const auto bad =
      Status(Code::kInvalidArgument, "--shard " + text + ": not I/N with 1 <= I <= N, e.g. 2/4");
  Shard shard;
  const char* end = text.data() + text.size();
  const auto [slash, problem] = std::from_chars(text.data(), end, shard.index);
  if (problem != std::errc() || slash == end || *slash != '/') return bad;
  const auto [stop, second] = std::from_chars(slash + 1, end, shard.count);
  if (second != std::errc() || stop != end) return bad;
  if (shard.index < 1 || shard.index > shard.count) return bad;
  return shard;
}

// Of one sample, from all its exits' probabilities.
std::string trace_row(const Sample& sample, std::span<const float> probabilities,
                      std::size_t exits) {
  const std::size_t classes = probabilities.size() / exits;
  std::vector<ClassNumber> predictions;
  std::vector<float> confidences;
  for (std::size_t exit = 0; exit < exits; ++exit) {
    const policy::ExitReading reading =
        policy::read_exit(probabilities.subspan(exit * classes, classes));
    predictions.push_back(static_cast<ClassNumber>(reading.prediction));
    confidences.push_back(reading.confidence);
  }
  std::string row;
  policy::append_trace_row(
      row, sample.truth ? static_cast<ClassNumber>(*sample.truth) : policy::kNoLabel, predictions,
      confidences);
  return row;
}

std::string probabilities_header(std::size_t exits, std::size_t classes) {
  std::string header = "label";
  for (std::size_t exit = 1; exit <= exits; ++exit) {
    for (std::size_t k = 1; k <= classes; ++k) header += fmt::format(",p_{}_{}", exit, k);
  }
  return header + "\n";
}

std::string probabilities_row(const Sample& sample, std::span<const float> probabilities) {
  std::string row = sample.truth ? std::to_string(*sample.truth) : "";
  for (const float p : probabilities) fmt::format_to(std::back_inserter(row), ",{}", p);
  return row + "\n";
}

Status trace(const Flags& flags) {
  Result<Shard> shard = parse_shard(flags.shard);
  if (!shard.ok()) return shard.status();
  Status apart = check_whole_output(flags.output, {flags.input, flags.model.path});
  if (!apart.ok()) return apart;
  Result<std::shared_ptr<const runtime::Network>> network =
      open_model(flags.model, {.preload = runtime::kAllLayers});
  if (!network.ok()) return network.status();
  if (Status status = check_confidence(**network); !status.ok()) return status;
  const runtime::NetworkInfo& info = (*network)->info();
  Result<std::vector<Sample>> samples = read_all_samples(flags.input, flags.format, info);
  if (!samples.ok()) return samples.status();
  const std::size_t begin = shard->begin(samples->size()), end = shard->end(samples->size());
  const std::span<const Sample> wanted = std::span(*samples).subspan(begin, end - begin);
  std::vector<std::string> rows(wanted.size());
  const std::size_t exits = info.exits();
  StopSignal stop(StopSignal::Hangup::kStops);
  const Result<std::size_t> done = for_all_exits_until(
      stop, **network, wanted, flags.model.threads, flags.progress,
      [&](std::size_t sample, std::span<const float> probabilities) {
        rows[sample] = flags.probabilities ? probabilities_row(wanted[sample], probabilities)
                                           : trace_row(wanted[sample], probabilities, exits);
      });
  if (!done.ok()) return done.status();
  std::string text = flags.probabilities ? probabilities_header(exits, info.classes())
                                         : policy::trace_header(exits);
  for (const std::string& row : std::span(rows).first(*done)) text += row;
  if (*done == 0 && !wanted.empty()) {
    return Status(Code::kIo, "stopped by a signal; nothing was written");
  }
  if (Status status = write_text_file(flags.output, text); !status.ok()) return status;
  if (*done == wanted.size()) return {};
  return Status(Code::kIo, fmt::format("stopped by a signal; {} holds the first {} of {} samples",
                                       flags.output, *done, wanted.size()));
}

}  // namespace

void add_trace(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "trace", "Runs all layers on all samples and writes every exit's answer, for replay.");
  const auto flags = std::make_shared<Flags>();
  add_model_flags(*command, flags->model, "samples computed at the same time, a thread each");
  add_sample_flags(*command, flags->input, flags->format);
  command->add_option("--output", flags->output, "the trace; .csv or, compressed, .csv.zst")
      ->type_name("FILE")
      ->required();
  command
      ->add_option("--shard", flags->shard,
                   "only part I of N equal parts of the samples, in order, 1-based")
      ->type_name("I/N")
      ->capture_default_str();
  command->add_flag(
      "--probabilities", flags->probabilities,
      "every exit's probability of every class, in place of its class and confidence");
  command->add_flag("--progress", flags->progress,
                    "show progress on standard error also where it is no terminal");
  command->footer(
      "\nTrace: CSV, header label,pred_1,conf_1,...,pred_L,conf_L, a row per sample; label and "
      "pred_i\n"
      "are class numbers, label is empty where unknown, conf_i is exit i's largest probability.\n"
      "With --probabilities: header label,p_1_1,...,p_1_K,p_2_1,...,p_L_K (exit, class).\n"
      "SIGINT, SIGTERM and SIGHUP: the samples done so far are written, and the exit status is 1.\n"
      "Every shard has the header; `splitee replay` takes shards put together with cat.");
  command->callback([flags, &exit_code] { exit_code = finish("splitee trace", trace(*flags)); });
}

}  // namespace splitee::tools
