#include "policy/trace.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <memory>
#include <span>

#include "policy/policy.h"
#include "tools/all_exits.h"
#include "tools/commands.h"
#include "tools/compressed_file.h"
#include "tools/console.h"
#include "tools/flags.h"
#include "tools/output_file.h"

namespace splitee::tools {

namespace {

using policy::ClassNumber;
using runtime::Code;
using runtime::Result;
using runtime::Status;

struct Flags {
  ModelFlags model;
  std::string input = "-", output;
  InputFormat format = InputFormat::kLines;
  std::string shard = "1/1";
  bool progress = false;
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

Status trace(const Flags& flags) {
  Result<Shard> shard = parse_shard(flags.shard);
  if (!shard.ok()) return shard.status();
  Status writable = check_not_input(flags.output, {flags.input, flags.model.path});
  if (!writable.ok()) return writable;
  Result<std::shared_ptr<const runtime::Model>> model =
      open_model(flags.model, {.preload = runtime::kAllLayers});
  if (!model.ok()) return model.status();
  const runtime::ModelConfig& config = (*model)->config();
  if (config.classes > std::numeric_limits<ClassNumber>::max()) {
    return Status(Code::kUnsupported, flags.model.path + ": too many classes for a trace");
  }
  Result<std::vector<Sample>> samples = read_all_samples(flags.input, flags.format, config);
  if (!samples.ok()) return samples.status();
  const std::size_t begin = shard->begin(samples->size()), end = shard->end(samples->size());
  const std::span<const Sample> wanted = std::span(*samples).subspan(begin, end - begin);
  std::vector<std::string> rows(wanted.size());
  const std::size_t exits = config.exit_layers.size();
  const Status status =
      for_all_exits(*model, wanted, flags.model.threads, flags.progress,
                    [&](std::size_t sample, std::span<const float> probabilities) {
                      rows[sample] = trace_row(wanted[sample], probabilities, exits);
                    });
  if (!status.ok()) return status;
  std::string text = policy::trace_header(exits);
  for (const std::string& row : rows) text += row;
  return write_text_file(flags.output, text);
}

}  // namespace

void add_trace(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "trace", "Runs all layers on all samples and writes every exit's answer, for replay.");
  const auto flags = std::make_shared<Flags>();
  add_model_flags(*command, flags->model, "samples computed at the same time, a thread each");
  command
      ->add_option("--input", flags->input,
                   "samples, as splitee-edge reads them; - is standard input")
      ->type_name("FILE")
      ->capture_default_str();
  add_input_format_flag(*command, flags->format);
  command->add_option("--output", flags->output, "the trace; .csv or, compressed, .csv.zst")
      ->type_name("FILE")
      ->required();
  command
      ->add_option("--shard", flags->shard,
                   "only part I of N equal parts of the samples, in order, 1-based")
      ->type_name("I/N")
      ->capture_default_str();
  command->add_flag("--progress", flags->progress, "show progress on standard error");
  command->footer(
      "\nTrace: CSV, header label,pred_1,conf_1,...,pred_L,conf_L, a row per sample; label and "
      "pred_i\n"
      "are class numbers, label is empty where unknown, conf_i is exit i's largest probability.\n"
      "Every shard has the header; `splitee replay` takes shards put together with cat.");
  command->callback([flags, &exit_code] { exit_code = finish("splitee trace", trace(*flags)); });
}

}  // namespace splitee::tools
