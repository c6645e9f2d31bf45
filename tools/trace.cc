#include "policy/trace.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <thread>

#include "policy/policy.h"
#include "runtime/engine.h"
#include "tools/commands.h"
#include "tools/compressed_file.h"
#include "tools/console.h"
#include "tools/flags.h"
#include "tools/progress.h"
#include "tools/sample_reader.h"

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

Result<std::vector<Sample>> read_samples(const Flags& flags, const runtime::ModelConfig& config) {
  Result<LineReader> lines = LineReader::open(flags.input);
  if (!lines.ok()) return lines.status();
  Result<SampleReader> reader = SampleReader::open(std::move(*lines), flags.format, config.labels);
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

// Runs all layers and exits on one sample; its row.
Result<std::string> trace_row(runtime::Engine& engine, const Sample& sample) {
  const runtime::Model& model = engine.model();
  const std::vector<std::size_t>& layers = model.config().exit_layers;
  std::string_view text2;
  if (sample.text2) text2 = *sample.text2;
  const runtime::Encoding input = model.tokenizer().encode(
      sample.text, sample.text2 ? &text2 : nullptr, model.config().max_tokens);
  Status status = engine.begin(input.ids, input.types);
  if (!status.ok()) return status;
  std::vector<ClassNumber> predictions;
  std::vector<float> confidences;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    status = engine.run_to(layers[i]);
    if (!status.ok()) return status;
    engine.finish_layer();
    const policy::ExitReading reading = policy::read_exit(engine.evaluate_exit(i));
    predictions.push_back(static_cast<ClassNumber>(reading.prediction));
    confidences.push_back(reading.confidence);
  }
  std::string row;
  policy::append_trace_row(
      row, sample.truth ? static_cast<ClassNumber>(*sample.truth) : policy::kNoLabel, predictions,
      confidences);
  return row;
}

// Rows in the order of the samples, computed by a thread per engine.
class Tracer {
 public:
  Tracer(std::shared_ptr<const runtime::Model> model, std::span<const Sample> samples,
         bool progress)
      : model_(std::move(model)), samples_(samples), rows_(samples.size()), progress_(progress) {}

  Status run(std::size_t threads) {
    std::vector<std::thread> workers;
    for (std::size_t i = 1; i < threads; ++i) workers.emplace_back([this] { work(); });
    work();
    for (std::thread& worker : workers) worker.join();
    progress_.finish();
    return status_;
  }
  const std::vector<std::string>& rows() const { return rows_; }

 private:
  void work() {
    runtime::Engine engine(model_, 1);
    for (std::size_t i = next_++; i < samples_.size(); i = next_++) {
      Result<std::string> row = trace_row(engine, samples_[i]);
      const std::lock_guard lock(mutex_);
      if (!row.ok()) {
        status_ = row.status();
        next_ = samples_.size();
        return;
      }
      rows_[i] = std::move(*row);
      ++done_;
      progress_.update(done_, samples_.size(), done_);
    }
  }

  std::shared_ptr<const runtime::Model> model_;
  std::span<const Sample> samples_;
  std::vector<std::string> rows_;
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;  // of the members below and a row's writing
  Progress progress_;
  std::size_t done_ = 0;
  Status status_;
};

Status trace(const Flags& flags) {
  Result<Shard> shard = parse_shard(flags.shard);
  if (!shard.ok()) return shard.status();
  Result<std::shared_ptr<const runtime::Model>> model = open_model(flags.model);
  if (!model.ok()) return model.status();
  const runtime::ModelConfig& config = (*model)->config();
  if (config.classes > std::numeric_limits<ClassNumber>::max()) {
    return Status(Code::kUnsupported, flags.model.path + ": too many classes for a trace");
  }
  Result<std::vector<Sample>> samples = read_samples(flags, config);
  if (!samples.ok()) return samples.status();
  const std::size_t begin = shard->begin(samples->size()), end = shard->end(samples->size());
  Tracer tracer(*model, std::span(*samples).subspan(begin, end - begin), flags.progress);
  if (Status status = tracer.run(flags.model.threads); !status.ok()) return status;
  std::string text = policy::trace_header(config.exit_layers.size());
  for (const std::string& row : tracer.rows()) text += row;
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
