#include "policy/replay.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "tools/commands.h"
#include "tools/compressed_file.h"
#include "tools/console.h"
#include "tools/flags.h"
#include "tools/output_file.h"

namespace splitee::tools {

namespace {

using nlohmann::ordered_json;
using policy::ReplayOptions;
using policy::ReplayResult;
using runtime::Code;
using runtime::Result;
using runtime::Status;

constexpr std::size_t kMaxTraceBytes = std::size_t{4} << 30;

struct Flags {
  std::string trace, decisions;
  ReplayOptions replay;
  CostFlags costs;
  std::string model;
  std::optional<double> alpha;
  std::size_t split = 0;  // layer; 0: not given
  std::vector<std::pair<std::size_t, double>> changes;
  bool json = false;
};

// Traces of shards put together with cat repeat the header.
void drop_repeated_headers(std::string& text) {
  const std::string header = text.substr(0, text.find('\n') + 1);
  std::size_t kept = header.size();
  if (header.empty()) return;
  for (std::size_t at = kept; at < text.size();) {
    const std::size_t line_end = text.find('\n', at);
    const std::size_t next = line_end == std::string::npos ? text.size() : line_end + 1;
    if (text.compare(at, next - at, header) != 0) {
      std::copy(text.begin() + static_cast<std::ptrdiff_t>(at),
                text.begin() + static_cast<std::ptrdiff_t>(next),
                text.begin() + static_cast<std::ptrdiff_t>(kept));
      kept += next - at;
    }
    at = next;
  }
  text.resize(kept);
}

ordered_json to_json(const policy::Estimate& estimate) {
  return {{"mean", estimate.mean}, {"ci95", estimate.ci95}};
}

ordered_json to_json(const ReplayResult& result, const std::vector<std::size_t>& layer_of) {
  ordered_json root;
  root["policy"] = result.policy;
  root["samples"] = result.samples;
  root["runs"] = result.runs;
  root["accuracy"] = nullptr;
  if (result.accuracy) root["accuracy"] = to_json(*result.accuracy);
  root["cost"] = to_json(result.cost);
  root["final_accuracy"] = nullptr;
  if (result.final_accuracy) root["final_accuracy"] = *result.final_accuracy;
  root["final_cost"] = result.final_cost;
  root["cost_reduction"] = result.cost_reduction;
  root["offload_rate"] = result.offload_rate.mean;
  root["best_arm"] = result.best_arm + 1;
  root["mean_reward"] = result.mean_reward;
  root["exit_share"] = result.exit_share;
  root["layers"] = layer_of;
  root["regret"] = ordered_json::array();
  for (const policy::RegretPoint& point : result.regret) {
    root["regret"].push_back(
        {{"t", point.t}, {"mean", point.regret.mean}, {"ci95", point.regret.ci95}});
  }
  return root;
}

std::string to_text(const ReplayResult& result) {
  std::string text;
  const auto row = [&text](std::string_view name, const std::string& value) {
    fmt::format_to(std::back_inserter(text), "{:<24} {}\n", name, value);
  };
  row("policy", result.policy);
  row("samples x runs", fmt::format("{} x {}", result.samples, result.runs));
  if (result.accuracy) {
    row("accuracy",
        fmt::format("{:.2f} +- {:.2f} % (all layers: {:.2f} %)", 100 * result.accuracy->mean,
                    100 * result.accuracy->ci95, 100 * result.final_accuracy.value_or(0)));
  }
  row("cost per sample", fmt::format("{:.3f} +- {:.3f} lambda (all layers: {:.3f})",
                                     result.cost.mean, result.cost.ci95, result.final_cost));
  row("cost reduction", fmt::format("{:.1f} %", 100 * result.cost_reduction));
  row("offload rate", fmt::format("{:.1f} %", 100 * result.offload_rate.mean));
  row("best arm", fmt::format("{}", result.best_arm + 1));
  if (!result.regret.empty()) {
    const policy::RegretPoint& last = result.regret.back();
    row("regret", fmt::format("{:.2f} +- {:.2f} after {} samples", last.regret.mean,
                              last.regret.ci95, last.t));
  }
  return text;
}

// run,t,arm,route,reward,cost; arms 1-based, 0 for an input sent at once.
std::string decision_row(const policy::Decision& decision) {
  const std::size_t arm = decision.arm == policy::kOffloadAtOnce ? 0 : decision.arm + 1;
  return fmt::format("{},{},{},{},{},{}\n", decision.run, decision.t, arm,
                     policy::route_name(decision.route), decision.reward, decision.cost);
}

// What the model suggests and no flag says.
Status take_from_model(const std::string& path, bool take_alphas, policy::PolicyOptions& options) {
  ModelFlags flags;
  flags.path = path;
  Result<std::shared_ptr<const runtime::Model>> model = open_model(flags);
  if (!model.ok()) return model.status();
  const runtime::ModelConfig& config = (*model)->config();
  if (options.layer_of.empty()) options.layer_of = config.exit_layers;
  if (!take_alphas) return {};
  if (config.alpha > 0) options.alpha = config.alpha;
  if (options.exit_alphas.empty()) options.exit_alphas = config.exit_alphas;
  return {};
}

Status resolve(Flags& flags, const policy::Trace& trace) {
  policy::PolicyOptions& options = flags.replay.policy_options;
  if (flags.replay.policy == "threshold-published" &&
      flags.replay.semantics != policy::Semantics::kPaper) {
    return Status(Code::kInvalidArgument, "--policy threshold-published needs --semantics paper");
  }
  if (!flags.model.empty()) {
    const Status status = take_from_model(flags.model, !flags.alpha, options);
    if (!status.ok()) return status;
  }
  if (flags.alpha) options.alpha = *flags.alpha;
  if (options.layer_of.empty()) {
    for (std::size_t i = 1; i <= trace.exits; ++i) options.layer_of.push_back(i);
  }
  Result<policy::CostModel> costs = cost_model(flags.costs);
  if (!costs.ok()) return costs.status();
  options.costs = *costs;
  for (const auto& [t, offload] : flags.changes) flags.replay.changes.push_back({t, offload});
  if (flags.replay.policy != "fixed") return {};
  if (flags.split == 0) return Status(Code::kInvalidArgument, "--policy fixed needs --split K");
  const auto& layers = options.layer_of;
  const auto found = std::find(layers.begin(), layers.end(), flags.split);
  if (found == layers.end()) {
    return Status(
        Code::kInvalidArgument,
        fmt::format("--split {}: the trace's exits are at layers {}", flags.split, join(layers)));
  }
  options.fixed_arm = static_cast<std::size_t>(found - layers.begin());
  return {};
}

Result<ReplayResult> run(Flags& flags) {
  Status apart = refuse_overwrite(flags.decisions, {flags.trace, flags.model});
  if (!apart.ok()) return apart;
  Result<std::string> text = read_text_file(flags.trace, kMaxTraceBytes);
  if (!text.ok()) return text.status();
  drop_repeated_headers(*text);
  Result<policy::Trace> trace = policy::parse_trace(*text, flags.trace);
  if (!trace.ok()) return trace.status();
  text->clear();
  text->shrink_to_fit();
  if (Status status = resolve(flags, *trace); !status.ok()) return status;
  if (flags.decisions.empty()) return policy::replay(*trace, flags.replay);

  Result<OutputFile> decisions = OutputFile::open(flags.decisions);
  if (!decisions.ok()) return decisions.status();
  Status written = decisions->write("run,t,arm,route,reward,cost\n");
  flags.replay.on_decision = [&](const policy::Decision& decision) {
    if (written.ok()) written = decisions->write(decision_row(decision));
  };
  Result<ReplayResult> result = policy::replay(*trace, flags.replay);
  if (!result.ok()) return result;
  if (written.ok()) written = decisions->close();
  if (!written.ok()) return written;
  return result;
}

int replay_command(Flags flags) {
  Result<ReplayResult> result = run(flags);
  if (!result.ok()) return fail("splitee replay", result.status());
  const std::string text =
      flags.json ? to_json(*result, flags.replay.policy_options.layer_of).dump(2) + "\n"
                 : to_text(*result);
  return finish("splitee replay", print_output(text));
}

std::string footer() {
  std::string text = "\nPolicies:\n";
  for (const policy::PolicyInfo& info : policy::policy_list()) {
    fmt::format_to(std::back_inserter(text), "  {:<16} {}\n", info.name, info.summary);
  }
  text +=
      "  oracle           the best fixed split in hindsight\n"
      "  threshold-published  with --semantics paper: the published baseline, an exit late\n"
      "\nJSON: policy, samples, runs, accuracy {mean, ci95} (null without labels), cost {mean, "
      "ci95}\n"
      "(lambda per sample), final_accuracy, final_cost, cost_reduction (share of final_cost),\n"
      "offload_rate (share), best_arm (1-based), mean_reward and exit_share (per arm), layers (of\n"
      "the arms), regret [{t, mean, ci95}, ...]. ci95 is half the width of the 95 % interval over\n"
      "runs. Decisions: CSV run,t,arm,route,reward,cost; arm 1-based (0: the input is sent at "
      "once),\n"
      "cost in lambda.";
  return text;
}

void add_flags(CLI::App& command, Flags& flags) {
  command.add_option("--trace", flags.trace, "trace of `splitee trace`, .csv or .csv.zst")
      ->type_name("FILE")
      ->required();
  command.add_option("--policy", flags.replay.policy, "policy to replay, see below")
      ->type_name("NAME")
      ->required();
  policy::PolicyOptions& options = flags.replay.policy_options;
  command
      .add_option(
          "--alpha", flags.alpha,
          "confidence from which a sample exits, 0 to 1 (default: that of --model, else 0.9)")
      ->type_name("X")
      ->check(number_within(0, 1));
  command
      .add_option("--exit-alphas", options.exit_alphas,
                  "an alpha per exit, for --policy factored-alpha (default: those of --model where "
                  "--alpha is not given, else --alpha)")
      ->type_name("X1,X2,...")
      ->delimiter(',')
      ->check(number_within(0, 1));
  command
      .add_option("--model", flags.model,
                  "the trace's model (GGUF), for its alphas and the layers of its exits")
      ->type_name("FILE");
  command
      .add_option("--split", flags.split,
                  "layer to split at, 1-based; only --policy fixed looks at it")
      ->type_name("K")
      ->check(number_within(1, 1e6));
  command
      .add_option("--layers", options.layer_of,
                  "layers of the exits, ascending, 1-based (default: exit i is layer i)")
      ->type_name("L1,L2,...")
      ->delimiter(',')
      ->check(number_within(1, 1e6));
  command.add_option("--exploration", options.exploration, "weight of UCB1's exploration term")
      ->type_name("C")
      ->check(non_negative_number())
      ->capture_default_str();
  add_cost_flags(command, flags.costs);
  command
      .add_option("--change", flags.changes,
                  "repeatable: from sample T of each run on, 0-based, an offload costs O")
      ->type_name("T O")
      ->check(non_negative_number());
  command.add_option("--runs", flags.replay.runs, "runs, each over the whole trace")
      ->type_name("N")
      ->check(number_within(1, 1e6))
      ->capture_default_str();
  add_seed_flag(command, flags.replay.seed, "seed of the orders and the policies");
}

void add_mode_flags(CLI::App& command, Flags& flags) {
  add_choice<policy::Order>(
      command, "--order", flags.replay.order,
      "order of the samples: drawn for each run, or the file's",
      {{"shuffled", policy::Order::kShuffled}, {"file", policy::Order::kFile}});
  add_choice<policy::Semantics>(
      command, "--semantics", flags.replay.semantics,
      "deployable: learns only from what an edge could have seen; paper: arm for arm what the "
      "published scripts do",
      {{"deployable", policy::Semantics::kDeployable}, {"paper", policy::Semantics::kPaper}});
  command.add_option("--decisions", flags.decisions, "write every decision as CSV")
      ->type_name("FILE");
  command.add_flag("--json", flags.json, "print JSON");
}

}  // namespace

void add_replay(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("replay", "Replays a policy on a trace, many times, with figures.");
  const auto flags = std::make_shared<Flags>();
  add_flags(*command, *flags);
  add_mode_flags(*command, *flags);
  command->footer(footer());
  command->callback([flags, &exit_code] { exit_code = replay_command(*flags); });
}

}  // namespace splitee::tools
