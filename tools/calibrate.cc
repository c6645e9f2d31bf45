#include <algorithm>
#include <atomic>
#include <cmath>
#include <iterator>
#include <memory>
#include <numeric>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "policy/calibration.h"
#include "policy/rng.h"
#include "runtime/file.h"
#include "runtime/hash.h"
#include "runtime/model_format.h"
#include "tools/all_exits.h"
#include "tools/commands.h"
#include "tools/console.h"
#include "tools/flags.h"
#include "tools/gguf_rewrite.h"
#include "tools/output_file.h"

namespace splitee::tools {

namespace {

using nlohmann::ordered_json;
using policy::AlphaChoice;
using policy::Answer;
using runtime::Code;
using runtime::Result;
using runtime::Status;

constexpr std::size_t kFewestSamples = 100;

struct Flags {
  ModelFlags model;
  std::string input = "-", output;
  InputFormat format = InputFormat::kTsv;
  double max_loss = 0.01;
  std::uint64_t seed = 0;
  bool json = false, progress = false;
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
  std::uint64_t hash = 0;
};

// Log-probabilities of all exits on all samples; a probability of 0 counts as the smallest float.
Result<Labelled> run_model(const Flags& flags, const std::shared_ptr<const runtime::Model>& model) {
  const runtime::ModelConfig& config = model->config();
  Result<std::vector<Sample>> samples = read_all_samples(flags.input, flags.format, config);
  if (!samples.ok()) return samples.status();
  std::erase_if(*samples, [](const Sample& sample) { return !sample.truth; });
  if (samples->size() < kFewestSamples) {
    const std::string name = flags.input == "-" ? "standard input" : flags.input;
    return Status(Code::kNotFound,
                  fmt::format("{}: {} labelled samples (column 'label'); at least {} are needed",
                              name, samples->size(), kFewestSamples));
  }
  policy::Rng rng(policy::mix_seed(flags.seed));
  policy::shuffle(std::span(*samples), rng);

  const std::size_t exits = config.exit_layers.size(), classes = config.classes;
  const std::size_t fit = samples->size() / 2, held_back = samples->size() - fit;
  Labelled labelled;
  for (const Sample& sample : *samples) {
    (labelled.fit.size() < fit ? labelled.fit : labelled.held_back).push_back(*sample.truth);
  }
  labelled.exits.assign(
      exits, {std::vector<float>(fit * classes), std::vector<float>(held_back * classes)});
  std::atomic<bool> finite = true;
  const Status status = for_all_exits(
      model, *samples, flags.model.threads, flags.progress,
      [&](std::size_t sample, std::span<const float> probabilities) {
        for (std::size_t i = 0; i < probabilities.size(); ++i) {
          if (!std::isfinite(probabilities[i])) finite = false;
          ExitRows& rows = labelled.exits[i / classes];
          std::vector<float>& half = sample < fit ? rows.fit : rows.held_back;
          half[(sample < fit ? sample : sample - fit) * classes + i % classes] =
              std::log(std::max(probabilities[i], std::numeric_limits<float>::denorm_min()));
        }
      });
  if (!status.ok()) return status;
  if (finite) return labelled;
  return Status(Code::kCorrupt, flags.model.path + ": an exit's probabilities are not numbers");
}

std::vector<Answer> answers_at(std::span<const float> rows, double temperature,
                               std::span<const std::uint32_t> truth) {
  const std::size_t classes = rows.size() / truth.size();
  std::vector<Answer> answers;
  for (std::size_t i = 0; i < truth.size(); ++i) {
    answers.push_back(policy::answer_at(rows.subspan(i * classes, classes), temperature, truth[i]));
  }
  return answers;
}

// As a model file keeps it, so that what is reported is what is written.
double stored(double value) {
  return static_cast<double>(static_cast<float>(value));
}

Report calibrated(const Labelled& labelled, const runtime::Model& model, double max_loss) {
  Report report;
  report.fit = labelled.fit.size();
  report.held_back = labelled.held_back.size();
  report.max_loss = max_loss;
  std::vector<std::vector<Answer>> answers;
  for (std::size_t i = 0; i < labelled.exits.size(); ++i) {
    const ExitRows& rows = labelled.exits[i];
    ExitReport exit;
    exit.temperature_before = static_cast<double>(model.exit(i).temperature);
    const double factor = policy::fit_temperature(rows.fit, model.config().classes, labelled.fit);
    // Exits that know nothing would otherwise grow hotter with every calibration.
    exit.temperature = stored(std::clamp(exit.temperature_before * factor,
                                         policy::kLowestTemperature, policy::kHighestTemperature));
    exit.ece_before =
        policy::calibration_error(answers_at(rows.held_back, 1.0, labelled.held_back));
    answers.push_back(
        answers_at(rows.held_back, exit.temperature / exit.temperature_before, labelled.held_back));
    exit.ece = policy::calibration_error(answers.back());
    exit.accuracy =
        static_cast<double>(std::ranges::count(answers.back(), true, &Answer::correct)) /
        static_cast<double>(answers.back().size());
    report.exits.push_back(exit);
  }
  report.alpha = policy::choose_alpha(answers, max_loss);
  const std::vector<AlphaChoice> alphas = policy::choose_alpha_per_exit(answers, max_loss);
  for (std::size_t i = 0; i < alphas.size(); ++i) report.exits[i].alpha = alphas[i];
  return report;
}

Status write_model(const Flags& flags, Report& report) {
  FloatKey temperatures{runtime::kKeyTemperatures, {}}, alphas{runtime::kKeyExitAlphas, {}};
  for (const ExitReport& exit : report.exits) {
    temperatures.values.push_back(static_cast<float>(exit.temperature));
    alphas.values.push_back(static_cast<float>(exit.alpha.alpha));
  }
  const FloatKey alpha{runtime::kKeyAlpha, {static_cast<float>(report.alpha.alpha)}, false};
  const Result<runtime::InputFile> file = runtime::InputFile::open(flags.model.path);
  if (!file.ok()) return file.status();
  std::vector<std::byte> old(file->size());
  if (Status s = file->read(0, old); !s.ok()) return s;
  const Result<runtime::Gguf> gguf = runtime::Gguf::parse(flags.model.path, old);
  if (!gguf.ok()) return gguf.status();
  const std::string bytes = with_keys(*gguf, old, std::array{temperatures, alphas, alpha});
  return not_usage(runtime::write_file_atomically(flags.output, std::as_bytes(std::span(bytes))));
}

ordered_json loss_json(const AlphaChoice& choice) {
  return {{"loss", choice.loss.mean}, {"loss_bound", choice.loss.bound}};
}

std::string to_json(const Report& report, const runtime::ModelConfig& config) {
  ordered_json root;
  root["fit"] = report.fit;
  root["held_back"] = report.held_back;
  root["max_loss"] = report.max_loss;
  root["alpha"] = report.alpha.alpha;
  root.update(loss_json(report.alpha));
  root["exits"] = ordered_json::array();
  for (std::size_t i = 0; i < report.exits.size(); ++i) {
    const ExitReport& exit = report.exits[i];
    ordered_json row = {{"layer", config.exit_layers[i]},
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

std::string to_text(const Report& report, const runtime::ModelConfig& config) {
  std::string text;
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "{} samples to fit temperatures, {} held back for all figures below\n\n",
                 report.fit, report.held_back);
  fmt::format_to(out,
                 "exit  accuracy  temperature      ECE before  after   alpha  exits   loses\n");
  for (std::size_t i = 0; i < report.exits.size(); ++i) {
    const ExitReport& exit = report.exits[i];
    fmt::format_to(out, "{:>4} {:>7.2f} % {:>6.3f} -> {:<6.3f} {:>8.2f} % {:>5.2f} %",
                   config.exit_layers[i], 100 * exit.accuracy, exit.temperature_before,
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

// Not everybody reads a table: what could not be promised is said in words.
void warn(const Report& report, const runtime::ModelConfig& config) {
  std::vector<std::size_t> layers;
  for (std::size_t i = 0; i < report.exits.size(); ++i) {
    if (report.exits[i].alpha.alpha == policy::kNeverSure) layers.push_back(config.exit_layers[i]);
  }
  if (report.alpha.alpha != policy::kNeverSure && layers.empty()) return;
  print_message(fmt::format(
      "splitee calibrate: no confidence up to {} keeps the loss below {:.2f} % for {}{}: alpha 1 "
      "is written, hardly anything will exit there. More samples or a larger --max-loss may "
      "help.\n",
      policy::kHighestAlpha, 100 * report.max_loss,
      layers.empty() ? "all exits at once" : "exits at layers ", join(layers)));
}

Status calibrate(const Flags& flags) {
  Status apart = refuse_overwrite(flags.output, {flags.input});
  if (!apart.ok()) return apart;
  Result<std::shared_ptr<const runtime::Model>> model = open_model(flags.model);
  if (!model.ok()) return model.status();
  const Result<Labelled> labelled = run_model(flags, *model);
  if (!labelled.ok()) return labelled.status();
  Report report = calibrated(*labelled, **model, flags.max_loss);
  if (Status status = write_model(flags, report); !status.ok()) return not_usage(status);
  warn(report, (*model)->config());
  return print_output(flags.json ? to_json(report, (*model)->config())
                                 : to_text(report, (*model)->config()));
}

}  // namespace

void add_calibrate(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "calibrate", "Fits temperatures and exit thresholds to labelled samples, into a new model.");
  const auto flags = std::make_shared<Flags>();
  add_model_flags(*command, flags->model, "samples computed at the same time, a thread each");
  command
      ->add_option("--input", flags->input,
                   "labelled samples that the model was not trained on, TSV with columns text, "
                   "label and, for pairs, text2; - is standard input")
      ->type_name("FILE")
      ->capture_default_str();
  add_choice<InputFormat>(*command, "--input-format", flags->format,
                          "how the input is laid out: named columns", {{"tsv", InputFormat::kTsv}});
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
  command->add_flag("--progress", flags->progress, "show progress on standard error");
  command->footer(
      "\nHalf of the samples fit a temperature per exit (least negative log-likelihood); the other "
      "half\ngives the expected calibration error (15 bins) and the thresholds: alpha is the "
      "smallest "
      "of\n.50, .51, ... .99 that, with confidence 95 %, loses no more than --max-loss, whichever "
      "exit the\npolicy comes to split at; each exit's own alpha does so for that exit alone.\n"
      "Written into the model: splitee.exit_temperatures, splitee.alpha (the default of "
      "splitee-edge)\nand splitee.exit_alphas; all else stays as it is, but for the content hash.\n"
      "JSON: fit, held_back (samples), max_loss, alpha, loss, loss_bound, exits [{layer, "
      "accuracy,\n"
      "temperature_before, temperature, ece_before, ece, alpha, exit_share, loss, loss_bound}]; "
      "shares,\nnot percent.");
  command->callback(
      [flags, &exit_code] { exit_code = finish("splitee calibrate", calibrate(*flags)); });
}

}  // namespace splitee::tools
