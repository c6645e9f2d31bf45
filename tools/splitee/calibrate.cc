#include <algorithm>
#include <atomic>
#include <cmath>
#include <iterator>
#include <memory>
#include <numeric>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/hash.h"
#include "base/rng.h"
#include "policy/measure/calibration.h"
#include "runtime/file/model_keys.h"
#include "tools/common/console.h"
#include "tools/common/flags.h"
#include "tools/common/output_file.h"
#include "tools/splitee/all_exits.h"
#include "tools/splitee/commands.h"
#include "tools/splitee/gguf_rewrite.h"
#include "tools/splitee/prior.h"

namespace splitee::tools {

namespace {

using nlohmann::ordered_json;
using policy::AlphaChoice;
using policy::Prediction;

constexpr std::size_t kFewestSamples = 100;
constexpr std::size_t kMostInputs = kMaxPriorRows / kFewestSamples;

struct Flags {
  ModelFlags model;
  std::vector<std::string> inputs = {"-"};  // several with rows_only: one per kind of samples
  std::string held_back, output;
  InputFormat format = InputFormat::kOfModel;
  double max_loss = 0.01;
  std::uint64_t seed = 0;
  bool json = false, progress = false;
  bool rows_only = false;
};

// What one exit says about the samples, row by row: log-probabilities at the model's temperature.
struct ExitRows {
  std::vector<float> fit, held_back;
};

struct Labelled {
  std::vector<std::uint32_t> fit, held_back;  // true classes
  std::vector<ExitRows> exits;
};

struct ExitReport {
  double temperature_before = 1, temperature = 1;
  double ece_before = 0, ece = 0;
  double accuracy = 0;
  AlphaChoice alpha;
};

struct Report {
  std::size_t fit = 0, held_back = 0;
  double max_loss = 0;
  AlphaChoice alpha;
  std::vector<ExitReport> exits;
  PriorRows prior;
};

// The labelled samples of a file, and for rows alone all of them, in random order.
Result<std::vector<Sample>> samples_of(const std::string& path, const Flags& flags,
                                       const runtime::NetworkInfo& info) {
  const bool text = info.input == runtime::InputKind::kText;
  const InputFormat format =
      flags.format == InputFormat::kOfModel && text ? InputFormat::kTsv : flags.format;
  Result<std::vector<Sample>> samples = read_all_samples(path, format, info);
  if (!samples.ok()) return samples.status();
  if (!flags.rows_only) {
    std::erase_if(*samples, [](const Sample& sample) { return !sample.truth; });
  }
  if (samples->size() < kFewestSamples) {
    const std::string name = path == "-" ? "standard input" : path;
    const std::size_t count = samples->size();
    return Status(
        Code::kNotFound,
        flags.rows_only
            ? fmt::format("{}: {} samples; at least {} are needed", name, count, kFewestSamples)
            : fmt::format("{}: {} labelled samples (column 'label'); at least {} are needed", name,
                          count, kFewestSamples));
  }
  Rng rng(mix_seed(flags.seed));
  shuffle(std::span(*samples), rng);
  return samples;
}

// The rows that are kept, in random order: of every file an equal part at most.
Result<std::vector<Sample>> samples_of_kinds(const Flags& flags, const runtime::NetworkInfo& info) {
  std::vector<Sample> all;
  for (const std::string& path : flags.inputs) {
    Result<std::vector<Sample>> samples = samples_of(path, flags, info);
    if (!samples.ok()) return samples;
    samples->resize(std::min(samples->size(), kMaxPriorRows / flags.inputs.size()));
    std::ranges::move(*samples, std::back_inserter(all));
  }
  Rng rng(mix_seed(flags.seed + 1));
  shuffle(std::span(all), rng);
  return all;
}

// Samples to fit temperatures to, and behind them those held back; `fit` is set to the number of
// the former.
Result<std::vector<Sample>> all_samples(const Flags& flags, const runtime::NetworkInfo& info,
                                        std::size_t& fit) {
  if (flags.rows_only) return samples_of_kinds(flags, info);
  Result<std::vector<Sample>> samples = samples_of(flags.inputs.front(), flags, info);
  if (!samples.ok()) return samples;
  fit = samples->size() / 2;
  if (flags.held_back.empty()) return samples;
  fit = samples->size();
  Result<std::vector<Sample>> others = samples_of(flags.held_back, flags, info);
  if (!others.ok()) return others;
  std::ranges::move(*others, std::back_inserter(*samples));
  return samples;
}

// Log-probabilities of all exits on all samples; a probability of 0 counts as the smallest float.
Result<Labelled> run_model(const Flags& flags, const runtime::Network& network) {
  const runtime::NetworkInfo& info = network.info();
  std::size_t fit = 0;
  Result<std::vector<Sample>> samples = all_samples(flags, info, fit);
  if (!samples.ok()) return samples.status();

  const std::size_t exits = info.exits(), classes = info.classes();
  const std::size_t held_back = samples->size() - fit;
  Labelled labelled;
  for (const Sample& sample : *samples) {
    (labelled.fit.size() < fit ? labelled.fit : labelled.held_back)
        .push_back(static_cast<std::uint32_t>(sample.truth.value_or(kNoTruth)));
  }
  labelled.exits.assign(
      exits, {std::vector<float>(fit * classes), std::vector<float>(held_back * classes)});
  std::atomic<bool> finite = true;
  StopSignal stop(StopSignal::Hangup::kStops);
  const Result<std::size_t> done = for_all_exits_until(
      stop, network, *samples, flags.model.threads, flags.progress,
      [&](std::size_t sample, std::span<const float> probabilities) {
        for (std::size_t i = 0; i < probabilities.size(); ++i) {
          if (!std::isfinite(probabilities[i])) finite = false;
          ExitRows& rows = labelled.exits[i / classes];
          std::vector<float>& half = sample < fit ? rows.fit : rows.held_back;
          half[(sample < fit ? sample : sample - fit) * classes + i % classes] =
              std::log(std::max(probabilities[i], std::numeric_limits<float>::denorm_min()));
        }
      });
  if (!done.ok()) return done.status();
  if (*done < samples->size()) {
    return Status(Code::kIo, "stopped by a signal; nothing was written");
  }
  if (finite) return labelled;
  return Status(Code::kCorrupt, flags.model.path + ": an exit's probabilities are not numbers");
}

std::vector<Prediction> answers_at(std::span<const float> rows, double temperature,
                                   std::span<const std::uint32_t> truth) {
  const std::size_t classes = rows.size() / truth.size();
  std::vector<Prediction> answers;
  for (std::size_t i = 0; i < truth.size(); ++i) {
    answers.push_back(
        policy::prediction_at(rows.subspan(i * classes, classes), temperature, truth[i]));
  }
  return answers;
}

// As a model file keeps it, so that what is reported is what is written.
double stored(double value) {
  return static_cast<double>(static_cast<float>(value));
}

Report rows_of(const Labelled& labelled, std::size_t kinds) {
  Report report;
  report.prior.kinds = kinds;
  for (const ExitRows& rows : labelled.exits) {
    add_exit(report.prior, rows.held_back, 1.0, labelled.held_back);
  }
  return report;
}

Report calibrated(const Labelled& labelled, const runtime::NetworkInfo& info, double max_loss) {
  Report report;
  report.fit = labelled.fit.size();
  report.held_back = labelled.held_back.size();
  report.max_loss = max_loss;
  std::vector<std::vector<Prediction>> answers;
  for (std::size_t i = 0; i < labelled.exits.size(); ++i) {
    const ExitRows& rows = labelled.exits[i];
    ExitReport exit;
    exit.temperature_before = static_cast<double>(info.temperatures[i]);
    const double factor = policy::fit_temperature(rows.fit, info.classes(), labelled.fit);
    // Exits that know nothing would otherwise grow hotter with every calibration.
    exit.temperature = stored(std::clamp(exit.temperature_before * factor,
                                         policy::kLowestTemperature, policy::kHighestTemperature));
    exit.ece_before =
        policy::calibration_error(answers_at(rows.held_back, 1.0, labelled.held_back));
    answers.push_back(
        answers_at(rows.held_back, exit.temperature / exit.temperature_before, labelled.held_back));
    exit.ece = policy::calibration_error(answers.back());
    exit.accuracy =
        static_cast<double>(std::ranges::count(answers.back(), true, &Prediction::correct)) /
        static_cast<double>(answers.back().size());
    report.exits.push_back(exit);
    add_exit(report.prior, rows.held_back, exit.temperature / exit.temperature_before,
             labelled.held_back);
  }
  report.alpha = policy::choose_alpha(answers, max_loss);
  const std::vector<AlphaChoice> alphas = policy::choose_alpha_per_exit(answers, max_loss);
  for (std::size_t i = 0; i < alphas.size(); ++i) report.exits[i].alpha = alphas[i];
  return report;
}

Status write_model(const Flags& flags, const runtime::Network& network, const Report& report) {
  std::vector<float> temperatures, alphas;
  for (const ExitReport& exit : report.exits) {
    temperatures.push_back(static_cast<float>(exit.temperature));
    alphas.push_back(static_cast<float>(exit.alpha.alpha));
  }
  std::vector<NewKey> keys;
  if (flags.rows_only) {
    keys = {u64_key(runtime::kKeyPriorNetwork, network.answers_hash())};
  } else {
    keys = {array_key(runtime::kKeyTemperatures, temperatures),
            array_key(runtime::kKeyExitAlphas, alphas),
            float_key(runtime::kKeyAlpha, static_cast<float>(report.alpha.alpha))};
  }
  std::ranges::move(prior_keys(report.prior), std::back_inserter(keys));
  const Result<InputFile> file = InputFile::open(flags.model.path);
  if (!file.ok()) return file.status();
  std::vector<std::byte> old(file->size());
  if (Status s = file->read(0, old); !s.ok()) return s;
  const Result<runtime::Gguf> gguf = runtime::Gguf::parse(flags.model.path, old);
  if (!gguf.ok()) return gguf.status();
  const Result<runtime::HashPlace> hash = runtime::find_content_hash(*gguf);
  if (!hash.ok()) return hash.status();
  // Else the new hash would hide damage of what has not been read, or a change since.
  if (content_hash_zeroing(old, hash->offset) != network.hash()) {
    return gguf->error(Code::kCorrupt, "the file was damaged or changed");
  }
  // With other temperatures it answers as no other file does.
  const std::string bytes =
      with_keys(*gguf, old, keys, flags.rows_only ? std::string_view() : runtime::kKeyPriorNetwork);
  return not_usage(write_file_atomically(flags.output, std::as_bytes(std::span(bytes))));
}

ordered_json loss_json(const AlphaChoice& choice) {
  return {{"loss", choice.loss.mean}, {"loss_bound", choice.loss.bound}};
}

std::string to_json(const Report& report, const runtime::NetworkInfo& info) {
  ordered_json root;
  root["fit"] = report.fit;
  root["held_back"] = report.held_back;
  root["max_loss"] = report.max_loss;
  root["alpha"] = report.alpha.alpha;
  root.update(loss_json(report.alpha));
  root["exits"] = ordered_json::array();
  for (std::size_t i = 0; i < report.exits.size(); ++i) {
    const ExitReport& exit = report.exits[i];
    ordered_json row = {{"layer", info.exit_layers[i]},
                        {"accuracy", exit.accuracy},
                        {"temperature_before", exit.temperature_before},
                        {"temperature", exit.temperature},
                        {"ece_before", exit.ece_before},
                        {"ece", exit.ece},
                        {"alpha", exit.alpha.alpha},
                        {"exit_share", exit.alpha.exit_share}};
    row.update(loss_json(exit.alpha));
    root["exits"].push_back(std::move(row));
  }
  return root.dump(2) + "\n";
}

std::string to_text(const Report& report, const runtime::NetworkInfo& info) {
  std::string text;
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "{} samples to fit temperatures, {} held back for all figures below\n\n",
                 report.fit, report.held_back);
  fmt::format_to(out,
                 "exit  accuracy  temperature      ECE before  after   alpha  exits   loses\n");
  for (std::size_t i = 0; i < report.exits.size(); ++i) {
    const ExitReport& exit = report.exits[i];
    fmt::format_to(out, "{:>4} {:>7.2f} % {:>6.3f} -> {:<6.3f} {:>8.2f} % {:>5.2f} %",
                   info.exit_layers[i], 100 * exit.accuracy, exit.temperature_before,
                   exit.temperature, 100 * exit.ece_before, 100 * exit.ece);
    if (i + 1 < report.exits.size()) {
      fmt::format_to(out, "   {:.2f}  {:>4.1f} %  {:.2f} %", exit.alpha.alpha,
                     100 * exit.alpha.exit_share, 100 * exit.alpha.loss.mean);
    }
    text += "\n";
  }
  fmt::format_to(
      out,
      "\nalpha for all exits: {:.2f}. Against the last exit it loses {:.2f} % at worst, "
      "with confidence 95 %\nless than {:.2f} % ({:.2f} % allowed), at whichever exit the "
      "stream is split, or at the first\nexit that is sure.\n",
      report.alpha.alpha, 100 * report.alpha.loss.mean, 100 * report.alpha.loss.bound,
      100 * report.max_loss);
  return text;
}

std::string rows_text(const Report& report, bool json) {
  const std::size_t rows = report.prior.labels.size(), kinds = report.prior.kinds;
  if (json) return ordered_json{{"rows", rows}, {"kinds", kinds}}.dump(2) + "\n";
  return fmt::format("{} rows of {} kind{} of samples\n", rows, kinds, kinds == 1 ? "" : "s");
}

// Not everybody reads a table: what could not be promised is said in words.
void warn(const Report& report, const runtime::NetworkInfo& info) {
  std::vector<std::size_t> layers;
  for (std::size_t i = 0; i < report.exits.size(); ++i) {
    if (report.exits[i].alpha.alpha == policy::kNeverSure) layers.push_back(info.exit_layers[i]);
  }
  if (report.alpha.alpha != policy::kNeverSure && layers.empty()) return;
  print_message(fmt::format(
      "splitee calibrate: no confidence up to {} keeps the loss below {:.2f} % for {}{}: alpha 1 "
      "is written, hardly anything will exit there. More samples or a larger --max-loss may "
      "help.\n",
      policy::kHighestAlpha, 100 * report.max_loss,
      layers.empty() ? "all exits at once" : "exits at layers ", join(layers)));
}

Status check_inputs(const Flags& flags) {
  const std::size_t count = flags.inputs.size();
  if (count > 1 && !flags.rows_only) {
    return Status(Code::kInvalidArgument, "several --input go with --rows-only alone");
  }
  if (count <= kMostInputs) return {};
  return Status(Code::kInvalidArgument,
                fmt::format("{} --input; at most {} kinds of samples", count, kMostInputs));
}

Status calibrate(const Flags& flags) {
  for (const std::string& input : flags.inputs) {
    Status apart = check_whole_output(flags.output, {input, flags.held_back});
    if (!apart.ok()) return apart;
  }
  if (Status status = check_inputs(flags); !status.ok()) return status;
  Result<std::shared_ptr<const runtime::Network>> network = open_model(flags.model);
  if (!network.ok()) return network.status();
  if (Status status = check_confidence(**network); !status.ok()) return status;
  const runtime::NetworkInfo& info = (*network)->info();
  const Result<Labelled> labelled = run_model(flags, **network);
  if (!labelled.ok()) return labelled.status();
  const Report report = flags.rows_only ? rows_of(*labelled, flags.inputs.size())
                                        : calibrated(*labelled, info, flags.max_loss);
  if (Status status = write_model(flags, **network, report); !status.ok()) return not_usage(status);
  if (flags.rows_only) return print_output(rows_text(report, flags.json));
  warn(report, info);
  return print_output(flags.json ? to_json(report, info) : to_text(report, info));
}

}  // namespace

void add_calibrate(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "calibrate", "Fits temperatures and exit thresholds to labelled samples, into a new model.");
  const auto flags = std::make_shared<Flags>();
  add_model_flags(*command, flags->model, "samples computed at the same time, a thread each");
  command
      ->add_option("--input", flags->inputs,
                   "labelled samples that the model was not trained on, with a column label; - is "
                   "standard input")
      ->type_name("FILE")
      ->allow_extra_args(false)
      ->default_str("-");
  command
      ->add_option("--held-back", flags->held_back,
                   "more such samples: all of --input then fit temperatures, and these give the "
                   "thresholds and figures (default: half of --input does)")
      ->type_name("FILE");
  command
      ->add_flag("--rows-only", flags->rows_only,
                 "leave temperatures and thresholds as they are, and write the rows alone that "
                 "policies start from: what every exit answers to --input; labels are not needed, "
                 "and --input may be given once for each kind of samples that a stream may be of")
      ->excludes("--held-back");
  add_choice<InputFormat>(
      *command, "--input-format", flags->format,
      "how the input is laid out: named columns, of text (tsv), of numbers (CSV "
      "or TSV) or with paths of images (TSV)",
      {{"tsv", InputFormat::kTsv},
       {"numbers", InputFormat::kNumbers},
       {"images", InputFormat::kImages}})
      ->default_str("tsv; numbers or images where the model takes them");
  command->add_option("--output", flags->output, "the calibrated model (GGUF)")
      ->type_name("FILE")
      ->required();
  command
      ->add_option("--max-loss", flags->max_loss,
                   "accuracy that early answers may lose against the last exit, as a share: 0.01 "
                   "is one point")
      ->type_name("X")
      ->check(number_within(0, 1))
      ->capture_default_str();
  add_seed_flag(*command, flags->seed, "seed of the division into halves");
  command->add_flag("--json", flags->json, "print JSON");
  command->add_flag("--progress", flags->progress,
                    "show progress on standard error also where it is no terminal");
  command->footer(
      "\nHalf of the samples fit a temperature per exit (least negative log-likelihood); the other "
      "half\ngives the expected calibration error (15 bins) and the thresholds: alpha is the "
      "smallest "
      "of\n.50, .51, ... .99 that, with confidence 95 %, loses no more than --max-loss, whichever "
      "exit the\npolicy comes to split at; each exit's own alpha does so for that exit alone.\n"
      "Written into the model: splitee.exit_temperatures, splitee.alpha (the default of "
      "splitee-edge),\nsplitee.exit_alphas, and what every exit answered to 2,000 of the samples "
      "held back, from which\npolicies start (splitee.prior.*); all else stays as it is, but for "
      "the content hash. With --rows-only\nthe file names the one before (splitee.prior.network), "
      "so that a policy's state goes on.\n"
      "JSON: fit, held_back (samples), max_loss, alpha, loss, loss_bound, exits [{layer, "
      "accuracy,\n"
      "temperature_before, temperature, ece_before, ece, alpha, exit_share, loss, loss_bound}]; "
      "shares,\nnot percent.");
  command->callback(
      [flags, &exit_code] { exit_code = finish("splitee calibrate", calibrate(*flags)); });
}

}  // namespace splitee::tools
