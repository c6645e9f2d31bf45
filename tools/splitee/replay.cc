#include "policy/replay/replay.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "policy/model_options.h"
#include "policy/replay/simple_rules.h"
#include "tools/common/console.h"
#include "tools/common/flags.h"
#include "tools/common/output_file.h"
#include "tools/common/policy_flags.h"
#include "tools/common/progress.h"
#include "tools/common/stop_signal.h"
#include "tools/splitee/commands.h"
#include "tools/splitee/compressed_file.h"
#include "tools/splitee/replay_plot.h"
#include "tools/splitee/replay_words.h"

namespace splitee::tools {

namespace {

using nlohmann::ordered_json;
using policy::ReplayOptions;
using policy::ReplayResult;

// Four GiB, or what a text may have on 32 bits.
constexpr auto kMaxTraceBytes =
    static_cast<std::size_t>(std::min(std::uint64_t{4} << 30, std::uint64_t{PTRDIFF_MAX} - 1));

struct Flags {
  Flags() { replay.policy = policy::kDefaultPolicy; }

  std::string trace, decisions, plot;
  ReplayOptions replay;
  CostFlags costs;
  std::string model;
  std::optional<double> alpha;
  std::optional<std::size_t> split;  // layer
  std::vector<std::pair<std::size_t, double>> changes;
  bool json = false;
};

// A replay, and beside it the cheapest simple rule in hindsight that differs no more.
struct Replayed {
  ReplayResult result;
  std::optional<policy::SimpleRule> hindsight;
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

ordered_json to_json(const policy::SimpleRule& rule, const std::vector<std::size_t>& layer_of) {
  return {{"policy", rule.name},
          {"setting", policy::to_text(rule, layer_of)},
          {"cost", rule.cost},
          {"disagreement", rule.disagreement}};
}

ordered_json to_json(const Replayed& replayed, const std::vector<std::size_t>& layer_of) {
  const ReplayResult& result = replayed.result;
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
  root["disagreement"] = to_json(result.disagreement);
  root["audit_rate"] = result.audit_rate;
  root["upper"] = nullptr;
  if (result.upper) root["upper"] = to_json(*result.upper);
  root["hindsight"] = nullptr;
  if (replayed.hindsight) root["hindsight"] = to_json(*replayed.hindsight, layer_of);
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

std::string to_text(const Replayed& replayed, const std::vector<std::size_t>& layer_of) {
  const ReplayResult& result = replayed.result;
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
  row("disagreement", fmt::format("{:.2f} +- {:.2f} % with the last exit",
                                  100 * result.disagreement.mean, 100 * result.disagreement.ci95));
  if (result.upper) {
    row("audited", fmt::format("{:.2f} %", 100 * result.audit_rate));
    row("bound", fmt::format("{:.2f} % of the answers, at all times", 100 * result.upper->mean));
  }
  if (replayed.hindsight) {
    row("in hindsight",
        fmt::format("{:.3f} lambda, differing no more: {}", replayed.hindsight->cost,
                    policy::to_text(*replayed.hindsight, layer_of)));
  }
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

Status resolve(Flags& flags, const policy::Trace& trace) {
  policy::PolicyOptions& options = flags.replay.policy_options;
  std::shared_ptr<const runtime::Network> network;
  if (!flags.model.empty()) {
    ModelFlags model;
    model.path = flags.model;
    Result<std::shared_ptr<const runtime::Network>> opened = open_model(model);
    if (!opened.ok()) return opened.status();
    network = std::move(*opened);
    policy::take_from_model(network->info(), !flags.alpha, options);
  }
  if (flags.alpha) options.alpha = *flags.alpha;
  if (options.layer_of.empty()) {
    for (std::size_t i = 1; i <= trace.exits; ++i) options.layer_of.push_back(i);
  }
  if (flags.costs.budget_unit == BudgetUnit::kBytes) {
    return {Code::kInvalidArgument,
            "--budget-unit bytes: a trace does not say what a sample sends"};
  }
  Result<policy::CostModel> costs = cost_model(flags.costs, network.get(), trace.exits);
  if (!costs.ok()) return costs.status();
  options.costs = *costs;
  for (const auto& [t, offload] : flags.changes) flags.replay.changes.push_back({t, offload});
  if (!takes_split(flags.replay.policy)) return {};
  const Result<std::size_t> arm = arm_at(flags.split, options.layer_of, "the trace's");
  if (!arm.ok()) return arm.status();
  options.fixed_arm = *arm;
  return {};
}

// With every decision as a row.
Result<ReplayResult> replay_to_file(Flags& flags, const policy::Trace& trace) {
  Result<OutputFile> decisions = OutputFile::open(flags.decisions);
  if (!decisions.ok()) return decisions.status();
  Status written = decisions->write("run,t,arm,route,reward,cost\n");
  flags.replay.on_decision = [&](const policy::Decision& decision) {
    if (written.ok()) written = decisions->write(decision_row(decision));
  };
  Result<ReplayResult> result = policy::replay(trace, flags.replay);
  if (!result.ok()) return result;
  if (written.ok()) written = decisions->close();
  if (!written.ok()) return written;
  return result;
}

// Costs that change have no rule in hindsight; nor has what the published scripts charge.
std::optional<policy::SimpleRule> in_hindsight(const Flags& flags, const policy::Trace& trace,
                                               const ReplayResult& result) {
  const ReplayOptions& replay = flags.replay;
  if (!replay.changes.empty() || replay.semantics == policy::Semantics::kPaper) return std::nullopt;
  const std::vector<policy::SimpleRule> rules =
      policy::simple_rules(trace, replay.policy_options, replay.server);
  return policy::cheapest(rules, result.disagreement.mean);
}

Status write_plot(const Flags& flags, const policy::Trace& trace) {
  ReplayOptions options = flags.replay;
  options.changes.clear();
  options.semantics = policy::Semantics::kDeployable;
  options.go_on = nullptr;
  options.own_policy = nullptr;
  const std::string name = flags.trace.substr(flags.trace.rfind('/') + 1);
  const std::string title = fmt::format(
      "{}: {} samples, {} runs, {}", name, trace.samples(), options.runs,
      options.server
          ? fmt::format("an offload costs {:g} lambda", options.policy_options.costs.offload /
                                                            options.policy_options.costs.lambda())
          : "no server");
  const Result<std::string> page = plot_page(trace, options, title);
  if (!page.ok()) return page.status();
  return not_usage(write_file_atomically(flags.plot, std::as_bytes(std::span(*page))));
}

Result<Replayed> run(Flags& flags) {
  Status apart = refuse_overwrite(flags.decisions, {flags.trace, flags.model});
  if (apart.ok()) apart = check_whole_output(flags.plot, {flags.trace, flags.model});
  if (apart.ok()) apart = refuse_same_output(flags.decisions, flags.plot);
  if (!apart.ok()) return apart;
  Result<std::string> text = read_text_file(flags.trace, kMaxTraceBytes);
  if (!text.ok()) return text.status();
  drop_repeated_headers(*text);
  Result<policy::Trace> trace = policy::parse_trace(*text, flags.trace);
  if (!trace.ok()) return trace.status();
  text->clear();
  text->shrink_to_fit();
  if (Status status = resolve(flags, *trace); !status.ok()) return status;
  Result<ReplayResult> result = flags.decisions.empty() ? policy::replay(*trace, flags.replay)
                                                        : replay_to_file(flags, *trace);
  if (!result.ok()) return result.status();
  std::optional<policy::SimpleRule> hindsight = in_hindsight(flags, *trace, *result);
  if (!flags.plot.empty()) {
    if (Status status = write_plot(flags, *trace); !status.ok()) return status;
  }
  return Replayed{std::move(*result), std::move(hindsight)};
}

// Stops after the run at hand where a signal comes.
Result<Replayed> run_watched(Flags& flags) {
  StopSignal stop(StopSignal::Hangup::kStops);
  Progress progress(Progress::Shown::kIfWatched, "runs");
  flags.replay.go_on = [&](double runs) {
    constexpr double kParts = 1000;
    const auto parts = static_cast<std::uint64_t>(kParts * runs);
    progress.update(parts, static_cast<std::uint64_t>(kParts) * flags.replay.runs,
                    static_cast<std::uint64_t>(runs));
    return !stop.received();
  };
  Result<Replayed> replayed = run(flags);
  progress.finish();
  return replayed;
}

int replay_command(Flags flags) {
  Result<Replayed> replayed = run_watched(flags);
  if (!replayed.ok()) return fail("splitee replay", replayed.status());
  const std::vector<std::size_t>& layer_of = flags.replay.policy_options.layer_of;
  const ReplayResult* const result = &replayed->result;
  Status status = print_output(flags.json ? to_json(*replayed, layer_of).dump(2) + "\n"
                                          : to_text(*replayed, layer_of));
  if (status.ok() && result->runs < flags.replay.runs) {
    status = Status(Code::kIo, fmt::format("stopped by a signal; these are the figures of {} of {} "
                                           "runs",
                                           result->runs, flags.replay.runs));
  }
  return finish("splitee replay", status);
}

std::string footer() {
  std::string text = "\n" + policy_table(policy::replay_only_list());
  text +=
      "\nJSON: policy, samples, runs, accuracy {mean, ci95} (null without labels), cost {mean, "
      "ci95}\n"
      "(lambda per sample), final_accuracy, final_cost, cost_reduction (share of final_cost),\n"
      "disagreement {mean, ci95} (share that differs from the last exit; of an audited sample "
      "what\n"
      "it would have been answered), audit_rate (share), upper (bound on it; null without "
      "audits),\n"
      "hindsight {policy, setting, cost, disagreement}: the cheapest simple rule that differs no "
      "more\n"
      "(a threshold from some exit on, one look and then the last exit or the server, one exit, "
      "all;\n"
      "null where costs change),\n"
      "offload_rate (share), best_arm (1-based), mean_reward and exit_share (per arm), layers (of\n"
      "the arms), regret [{t, mean, ci95}, ...] against best_arm, the best split in hindsight "
      "under\n"
      "the paper's reward, the same for every policy. ci95 is half the width of the 95 % interval "
      "over\n"
      "runs. After SIGINT, SIGTERM or SIGHUP they are those of the runs finished (\"runs\"). "
      "Decisions: CSV run,t,arm,route,reward,cost; arm 1-based (0: the input is sent at "
      "once;\n"
      "of a policy that chooses exit by exit the one that answered, or that it was sent from), "
      "cost "
      "in\n"
      "lambda.";
  return text;
}

void add_flags(CLI::App& command, Flags& flags) {
  command
      .add_option("--trace", flags.trace,
                  "trace of `splitee trace`, of classes or of probabilities, .csv or .csv.zst")
      ->type_name("FILE")
      ->required();
  command.add_option("--policy", flags.replay.policy, "policy to replay, see below")
      ->type_name("NAME")
      ->capture_default_str();
  policy::PolicyOptions& options = flags.replay.policy_options;
  command
      .add_option(
          "--alpha", flags.alpha,
          "confidence from which a sample exits, 0 to 1 (default: that of --model, else 0.9)")
      ->type_name("X")
      ->check(number_within(0, 1));
  command
      .add_option(
          "--exit-alphas", options.exit_alphas,
          "an alpha per exit, for policies that choose among them (default: those of --model where "
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
                  "layer to split at, 1-based; for policies that take a given split")
      ->type_name("K")
      ->check(number_within(1, 1e6));
  command
      .add_option("--layers", options.layer_of,
                  "layers of the exits, ascending, 1-based (default: exit i is layer i)")
      ->type_name("L1,L2,...")
      ->delimiter(',')
      ->check(number_within(1, 1e6));
  add_policy_option_flags(command, options);
  add_cost_flags(command, flags.costs);
  add_costs_file_flag(command, flags.costs);
  add_budget_unit_flag(command, flags.costs);
  command.remove_option(command.get_option("--offload-cost"));
  command
      .add_option_function<std::string>(
          "--offload-cost",
          [&flags](const std::string& text) {
            flags.replay.server = text != "none";
            if (flags.replay.server) CLI::detail::lexical_cast(text, flags.costs.offload);
          },
          "cost of one offload, in the unit of --lambda; none: there is no server")
      ->type_name("X")
      ->check(CLI::IsMember({"none"}) | non_negative_number())
      ->default_str(fmt::format("{}", flags.costs.offload));
  command
      .add_option("--change", flags.changes,
                  "repeatable: from sample T of each run on, 0-based, an offload costs O")
      ->type_name("T O")
      ->check(non_negative_number());
  command.add_option("--runs", flags.replay.runs, "runs, each over the whole trace")
      ->type_name("N")
      ->check(number_within(1, 1e6))
      ->capture_default_str();
  command
      .add_option("--window", flags.replay.window,
                  "samples in progress at a time, as on an edge: the policy learns from sample t "
                  "right before sample t + N is planned")
      ->type_name("N")
      ->check(number_within(1, 256))
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
  command
      .add_option("--plot", flags.plot,
                  "write a page (HTML, nothing from outside): cost against disagreement of every "
                  "policy at several settings beside simple rules in hindsight, and their regret; "
                  "replays all of them --runs times")
      ->type_name("OUT.html");
  command.add_flag("--json", flags.json, "print JSON");
}

}  // namespace

Result<std::string> replay_words(const std::string& trace, std::vector<std::string> words,
                                 const OwnPolicy& own_policy) {
  CLI::App app("", "options");
  app.set_help_flag();
  Flags flags;
  add_flags(app, flags);
  add_mode_flags(app, flags);
  words.push_back("trace=" + trace);
  if (own_policy) words.emplace_back("policy=own");
  if (Status status = parse_words(app, words); !status.ok()) return status;
  flags.replay.own_policy = own_policy;
  const Result<Replayed> replayed = run(flags);
  if (!replayed.ok()) return replayed.status();
  return to_json(*replayed, flags.replay.policy_options.layer_of).dump();
}

void add_replay(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("replay", "Replays a policy on a trace, many times, with figures.");
  const auto flags = std::make_shared<Flags>();
  add_flags(*command, *flags);
  add_mode_flags(*command, *flags);
  command->footer(footer());
  command->callback([flags, command, &exit_code] {
    const std::string unread = unread_options(*command, flags->replay.policy);
    // A plot has a curve of every policy.
    if (!unread.empty() && flags->plot.empty()) print_message("splitee replay: " + unread + "\n");
    exit_code = replay_command(*flags);
  });
}

}  // namespace splitee::tools
