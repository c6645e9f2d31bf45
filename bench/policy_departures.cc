// What each departure of the published scripts does on a trace (policy/replay/replay.h lists them).
// usage: policy_departures TRACE.csv ALPHA [OFFLOAD_IN_LAMBDA [RUNS]]
// Prints a Markdown table: means over the runs, each over the whole trace in another order.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/file.h"
#include "policy/replay/replay.h"

namespace splitee::policy {
namespace {

double regret_at(const ReplayResult& result, std::size_t t) {
  double regret = 0;
  for (const RegretPoint& point : result.regret) {
    if (point.t <= t) regret = point.regret.mean;
  }
  return regret;
}

void print_row(const Trace& trace, const ReplayOptions& options, const char* variant) {
  const auto result = replay(trace, options);
  if (!result.ok()) {
    std::fprintf(stderr, "%s\n", result.status().message().c_str());
    std::exit(1);
  }
  std::printf("| %s | %s | %.3f ± %.3f | %.3f ± %.3f | %.2f | %.1f | %.1f | %zu |\n",
              options.policy.c_str(), variant, 100 * result->accuracy.value_or(Estimate()).mean,
              100 * result->accuracy.value_or(Estimate()).ci95, result->cost.mean,
              result->cost.ci95, 100 * result->offload_rate.mean, regret_at(*result, 2000),
              result->regret.back().regret.mean, result->best_arm + 1);
}

void print_all(const Trace& trace, ReplayOptions options) {
  std::printf(
      "| policy | variant | accuracy %% | cost λ | offloaded %% | regret at 2000 | at the end | "
      "best "
      "split named |\n|---|---|---|---|---|---|---|---|\n");
  for (const char* policy : {"splitee", "splitee-s"}) {
    options.policy = policy;
    options.semantics = Semantics::kPaper;
    const auto variant = [&](const char* name, PaperDepartures departures) {
      options.departures = departures;
      print_row(trace, options, name);
    };
    variant("as published", {});
    variant("cost reported as learned (1)", {.reported_split = false});
    variant("ln of all samples (3)", {.log_from_stream = false});
    variant("first pulls charged (4)", {.free_first_pulls = false});
    variant("no peeking (5)", {.peeks = false});
    variant("none of these", {false, false, false, false});
    options.semantics = Semantics::kDeployable;
    print_row(trace, options, "deployable");
  }
  options.semantics = Semantics::kPaper;
  options.departures = {};
  options.policy = "threshold-published";
  print_row(trace, options, "an exit late (7)");
  options.policy = "threshold";
  print_row(trace, options, "corrected");
}

int departures_main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: policy_departures TRACE.csv ALPHA [OFFLOAD_IN_LAMBDA [RUNS]]\n");
    return 2;
  }
  const auto text = read_file(argv[1], PTRDIFF_MAX);
  if (!text.ok()) {
    std::fprintf(stderr, "%s\n", text.status().message().c_str());
    return 1;
  }
  const auto trace = parse_trace(*text, argv[1]);
  if (!trace.ok()) {
    std::fprintf(stderr, "%s\n", trace.status().message().c_str());
    return 1;
  }
  ReplayOptions options;
  options.policy_options.alpha = std::atof(argv[2]);
  options.policy_options.costs.lambda1 = 0.08;
  options.policy_options.costs.lambda2 = 0.02;
  options.policy_options.costs.offload = 0.1 * (argc > 3 ? std::atof(argv[3]) : 5.0);
  options.runs = argc > 4 ? static_cast<std::size_t>(std::atoi(argv[4])) : 20;
  options.seed = 1;
  print_all(*trace, options);
  return 0;
}

}  // namespace
}  // namespace splitee::policy

int main(int argc, char** argv) {
  return splitee::policy::departures_main(argc, argv);
}
