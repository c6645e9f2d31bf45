#include <algorithm>
#include <atomic>
#include <cmath>
#include <iterator>
#include <memory>
#include <numeric>
#include <span>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "policy/policy.h"
#include "tools/common/console.h"
#include "tools/common/flags.h"
#include "tools/splitee/all_exits.h"
#include "tools/splitee/commands.h"

namespace splitee::tools {

namespace {

using nlohmann::ordered_json;

constexpr std::size_t kWorstShown = 10;
constexpr std::array<double, 4> kQuantiles = {0.5, 0.9, 0.99, 0.999};

struct Flags {
  ModelFlags first, second;
  std::string input = "-";
  InputFormat format = InputFormat::kOfModel;
  bool json = false, progress = false;
};

// All answers of one model: (samples, exits, classes).
using Answers = std::vector<float>;

struct Shape {
  std::size_t samples, exits, classes;
  std::span<const float> exit_of(const Answers& answers, std::size_t sample,
                                 std::size_t exit) const {
    return std::span(answers).subspan((sample * exits + exit) * classes, classes);
  }
};

// One exit on one sample.
struct Change {
  std::size_t sample = 0, exit = 0;
  double probability = 0;  // the largest over the classes
  double confidence = 0;   // of the second model minus the first one's
  bool agrees = true;
};

struct Spread {
  double mean = 0, most = 0;
  std::array<double, kQuantiles.size()> quantiles{};
};

struct ExitReport {
  std::size_t disagreements = 0;
  Spread probability, confidence;
  std::size_t right_first = 0, right_second = 0;  // of the labelled samples
};

struct Report {
  std::size_t samples = 0, labelled = 0;
  std::vector<ExitReport> exits;
  std::vector<Change> worst;  // the largest change first, a sample once
};

// Models can be compared where exit i and class k mean the same in both.
Status check_alike(const runtime::Network& first, const runtime::Network& second) {
  const auto differ = [&](const std::string& what) {
    return Status(Code::kUnsupported, first.path() + " and " + second.path() + ": " + what);
  };
  const runtime::NetworkInfo &a = first.info(), &b = second.info();
  if (a.exit_layers != b.exit_layers) {
    return differ(fmt::format("exits behind layers {} and {}: not the same", join(a.exit_layers),
                              join(b.exit_layers)));
  }
  if (a.labels == b.labels) return {};
  return differ(fmt::format("labels {} and {}: not the same", join(a.labels), join(b.labels)));
}

Result<Answers> run_model(const Flags& flags, const runtime::Network& network,
                          std::span<const Sample> samples) {
  const std::size_t width = network.info().exits() * network.info().classes();
  Answers answers(samples.size() * width);
  std::atomic<bool> finite = true;
  const Status status =
      for_all_exits(network, samples, flags.first.threads, flags.progress,
                    [&](std::size_t sample, std::span<const float> probabilities) {
                      std::ranges::copy(probabilities, answers.data() + sample * width);
                      for (const float p : probabilities) {
                        if (!std::isfinite(p)) finite = false;
                      }
                    });
  if (!status.ok()) return status;
  if (finite) return answers;
  return Status(Code::kCorrupt, network.path() + ": an exit's probabilities are not numbers");
}

Change change_of(std::span<const float> first, std::span<const float> second) {
  Change change;
  for (std::size_t k = 0; k < first.size(); ++k) {
    change.probability =
        std::max(change.probability, static_cast<double>(std::abs(second[k] - first[k])));
  }
  const policy::ExitReading a = policy::read_exit(first), b = policy::read_exit(second);
  change.confidence = static_cast<double>(b.confidence) - static_cast<double>(a.confidence);
  change.agrees = a.prediction == b.prediction;
  return change;
}

// `values` end up sorted. The q-quantile is the value that a share q does not exceed.
Spread spread_of(std::vector<double>& values) {
  Spread spread;
  std::ranges::sort(values);
  const auto count = static_cast<double>(values.size());
  spread.mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  spread.most = values.back();
  for (std::size_t i = 0; i < kQuantiles.size(); ++i) {
    const auto rank = static_cast<std::size_t>(std::ceil(kQuantiles[i] * count));
    spread.quantiles[i] = values[std::max<std::size_t>(rank, 1) - 1];
  }
  return spread;
}

ExitReport report_exit(const Shape& shape, std::size_t exit, std::span<const Sample> samples,
                       const Answers& first, const Answers& second, std::vector<Change>& worst) {
  ExitReport report;
  std::vector<double> probability, confidence;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto a = shape.exit_of(first, i, exit), b = shape.exit_of(second, i, exit);
    Change change = change_of(a, b);
    probability.push_back(change.probability);
    confidence.push_back(std::abs(change.confidence));
    if (!change.agrees) ++report.disagreements;
    if (samples[i].truth) {
      report.right_first += policy::read_exit(a).prediction == *samples[i].truth ? 1 : 0;
      report.right_second += policy::read_exit(b).prediction == *samples[i].truth ? 1 : 0;
    }
    change.sample = i;
    change.exit = exit;
    if (exit == 0 || change.probability > worst[i].probability) worst[i] = change;
  }
  report.probability = spread_of(probability);
  report.confidence = spread_of(confidence);
  return report;
}

Report compared(const Shape& shape, std::span<const Sample> samples, const Answers& first,
                const Answers& second) {
  Report report;
  report.samples = samples.size();
  report.labelled = static_cast<std::size_t>(
      std::ranges::count_if(samples, [](const Sample& s) { return s.truth.has_value(); }));
  std::vector<Change> worst(samples.size());
  for (std::size_t exit = 0; exit < shape.exits; ++exit) {
    report.exits.push_back(report_exit(shape, exit, samples, first, second, worst));
  }
  std::ranges::stable_sort(worst, std::greater<>(), &Change::probability);
  worst.resize(std::min(worst.size(), kWorstShown));
  report.worst = std::move(worst);
  return report;
}

// What the two printers need.
struct Shown {
  const Report& report;
  const runtime::NetworkInfo& info;
  const Shape& shape;
  std::span<const Sample> samples;
  const Answers &first, &second;
};

double share(std::size_t part, std::size_t whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}

ordered_json spread_json(const Spread& spread) {
  ordered_json quantiles;
  for (std::size_t i = 0; i < kQuantiles.size(); ++i) {
    quantiles[fmt::format("{}", kQuantiles[i])] = spread.quantiles[i];
  }
  return {{"mean", spread.mean}, {"quantiles", quantiles}, {"max", spread.most}};
}

ordered_json answer_json(std::span<const float> probabilities) {
  const policy::ExitReading reading = policy::read_exit(probabilities);
  return {{"class", reading.prediction},
          {"confidence", reading.confidence},
          {"probabilities", std::vector<float>(probabilities.begin(), probabilities.end())}};
}

ordered_json worst_json(const Shown& shown, const Change& change) {
  const Sample& sample = shown.samples[change.sample];
  ordered_json row = {{"id", sample.id},
                      {"layer", shown.info.exit_layers[change.exit]},
                      {"probability_change", change.probability},
                      {"text", input_text(sample.input)}};
  if (sample.input.second) row["text2"] = *sample.input.second;
  row["first"] = answer_json(shown.shape.exit_of(shown.first, change.sample, change.exit));
  row["second"] = answer_json(shown.shape.exit_of(shown.second, change.sample, change.exit));
  return row;
}

std::string to_json(const Shown& shown) {
  const Report& report = shown.report;
  ordered_json root = {{"samples", report.samples}, {"labelled", report.labelled}};
  root["exits"] = ordered_json::array();
  for (std::size_t i = 0; i < report.exits.size(); ++i) {
    const ExitReport& exit = report.exits[i];
    ordered_json row = {{"layer", shown.info.exit_layers[i]},
                        {"agreement", 1 - share(exit.disagreements, report.samples)},
                        {"disagreements", exit.disagreements},
                        {"probability_change", spread_json(exit.probability)},
                        {"confidence_change", spread_json(exit.confidence)}};
    if (report.labelled > 0) {
      row["accuracy"] = {share(exit.right_first, report.labelled),
                         share(exit.right_second, report.labelled)};
    }
    root["exits"].push_back(std::move(row));
  }
  root["worst"] = ordered_json::array();
  for (const Change& change : report.worst) root["worst"].push_back(worst_json(shown, change));
  return root.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

// The first characters of a text, on one line.
std::string start_of(const std::string& text) {
  constexpr std::size_t kBytes = 40;
  std::size_t end = std::min(text.size(), kBytes);
  while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0u) == 0x80u) {
    --end;
  }
  return printable(text.substr(0, end)) + (end < text.size() ? "..." : "");
}

void add_exits(const Shown& shown, std::string& text) {
  const Report& report = shown.report;
  const auto out = std::back_inserter(text);
  fmt::format_to(out, "exit  agreement  mean change  50 %    90 %    99 %    99.9 %  max   {}\n",
                 report.labelled > 0 ? "  accuracy" : "");
  for (std::size_t i = 0; i < report.exits.size(); ++i) {
    const ExitReport& exit = report.exits[i];
    fmt::format_to(out, "{:>4} {:>8.3f} %     {:.5f}", shown.info.exit_layers[i],
                   100 * (1 - share(exit.disagreements, report.samples)), exit.probability.mean);
    for (const double value : exit.probability.quantiles) fmt::format_to(out, "  {:.4f}", value);
    fmt::format_to(out, "  {:.4f}", exit.probability.most);
    if (report.labelled > 0) {
      fmt::format_to(out, "  {:.2f} -> {:.2f} %", 100 * share(exit.right_first, report.labelled),
                     100 * share(exit.right_second, report.labelled));
    }
    text += "\n";
  }
}

void add_worst(const Shown& shown, std::string& text) {
  const auto out = std::back_inserter(text);
  text += "\nsample  exit  change  answers (confidence)\n";
  for (const Change& change : shown.report.worst) {
    const auto a = shown.shape.exit_of(shown.first, change.sample, change.exit);
    const auto b = shown.shape.exit_of(shown.second, change.sample, change.exit);
    const policy::ExitReading first = policy::read_exit(a), second = policy::read_exit(b);
    const Sample& sample = shown.samples[change.sample];
    fmt::format_to(out, "{:>6}  {:>4}  {:.4f}  {} ({:.3f}) -> {} ({:.3f})  {}\n", sample.id,
                   shown.info.exit_layers[change.exit], change.probability,
                   printable(shown.info.labels[first.prediction]), first.confidence,
                   printable(shown.info.labels[second.prediction]), second.confidence,
                   start_of(input_text(sample.input)));
  }
}

std::string to_text(const Shown& shown) {
  std::string text =
      fmt::format("{} samples. Change: of the probability that changes most, per sample.\n\n",
                  shown.report.samples);
  add_exits(shown, text);
  add_worst(shown, text);
  return text;
}

Status compare(Flags flags) {
  flags.second.target = flags.first.target;
  const runtime::ModelOptions all{.preload = runtime::kAllLayers};
  const auto first = open_model(flags.first, all);
  if (!first.ok()) return first.status();
  const auto second = open_model(flags.second, all);
  if (!second.ok()) return second.status();
  if (Status status = check_alike(**first, **second); !status.ok()) return status;
  const runtime::NetworkInfo& info = (*first)->info();
  Result<std::vector<Sample>> samples = read_all_samples(flags.input, flags.format, info);
  if (!samples.ok()) return samples.status();
  if (samples->empty()) {
    const std::string name = flags.input == "-" ? "standard input" : flags.input;
    return Status(Code::kNotFound, name + ": no samples");
  }
  const Result<Answers> a = run_model(flags, **first, *samples);
  if (!a.ok()) return a.status();
  const Result<Answers> b = run_model(flags, **second, *samples);
  if (!b.ok()) return b.status();
  const Shape shape{samples->size(), info.exits(), info.classes()};
  const Report report = compared(shape, *samples, *a, *b);
  const Shown shown{report, info, shape, *samples, *a, *b};
  return print_output(flags.json ? to_json(shown) : to_text(shown));
}

}  // namespace

void add_compare(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "compare", "Says how far the answers of two models differ, at every exit, on samples.");
  const auto flags = std::make_shared<Flags>();
  command->add_option("first", flags->first.path, "model file (GGUF)")
      ->type_name("A.gguf")
      ->required();
  command
      ->add_option("second", flags->second.path,
                   "another one with the same exits and labels: another type of weights, for "
                   "instance")
      ->type_name("B.gguf")
      ->required();
  add_machine_flags(*command, flags->first, "samples computed at the same time, a thread each");
  add_sample_flags(*command, flags->input, flags->format);
  command->add_flag("--json", flags->json, "print JSON");
  command->add_flag("--progress", flags->progress,
                    "show progress on standard error also where it is no terminal");
  command->footer(
      "\nA sample's change at an exit is that of the class whose probability changes most. Per "
      "exit:\nshare of the samples with the same class, mean, quantiles and largest change; "
      "accuracy where\nsamples have labels. Then the ten samples that changed most.\n"
      "JSON: samples, labelled, exits [{layer, agreement, disagreements, probability_change and\n"
      "confidence_change {mean, quantiles {\"0.5\", \"0.9\", \"0.99\", \"0.999\"}, max}, accuracy "
      "[A, B]\n(with labels only)}], worst [{id, layer, probability_change, text, text2, first "
      "and second\n{class, confidence, probabilities}}]; shares, not percent.");
  command->callback(
      [flags, &exit_code] { exit_code = finish("splitee compare", compare(*flags)); });
}

}  // namespace splitee::tools
