// Speed of decisions: replay of a trace, one live decision with its update, and reading a trace.
// Times are CPU times; items are decisions (samples).
#include <string>

#include <benchmark/benchmark.h>

#include "policy/episode.h"
#include "policy/replay/replay.h"
#include "tests/policy/planted.h"

namespace splitee::policy {
namespace {

constexpr std::size_t kSamples = 100'000;
constexpr std::size_t kRuns = 20;

const Trace& trace() {
  static const Trace trace = network_like_trace(kSamples, 1.0);
  return trace;
}

void replay_runs(benchmark::State& state, const std::string& policy, Semantics semantics) {
  ReplayOptions options;
  options.policy = policy;
  options.policy_options.alpha = 0.7;
  options.runs = kRuns;
  options.semantics = semantics;
  for (auto _ : state) {
    auto result = replay(trace(), options);
    SPLITEE_CHECK(result.ok());
    benchmark::DoNotOptimize(result->cost.mean);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kSamples * kRuns));
}

struct Row {
  const double* confidence;
  std::size_t exits;
  ExitReading evaluate(std::size_t arm) const {
    return {.confidence = static_cast<float>(confidence[arm]),
            .prediction = 0,
            .classes = 2,
            .probabilities = {}};
  }
  std::optional<float> offload(std::size_t) const {
    return static_cast<float>(confidence[exits - 1]);
  }
};

// plan() to observe() as on the edge, the network's own work left out.
void live_decision(benchmark::State& state, const std::string& policy_name) {
  PolicyOptions options = options_for(trace().exits);
  auto policy = make_policy(policy_name, options);
  SPLITEE_CHECK(policy.ok());
  EpisodeRunner session(**policy, options);
  std::size_t sample = 0;
  for (auto _ : state) {
    const Row row{&trace().confidence[sample * trace().exits], trace().exits};
    double cost = session.run(LinkState::kUp, row).cost;
    benchmark::DoNotOptimize(cost);
    sample = sample + 1 < kSamples ? sample + 1 : 0;
  }
  state.SetItemsProcessed(state.iterations());
}

// A row whose exits stand for more of them.
struct SpreadRow {
  const Trace& trace;
  std::size_t sample, exits;
  ExitReading evaluate(std::size_t arm) const {
    const std::size_t at = sample * trace.exits + arm * trace.exits / exits;
    return {.confidence = static_cast<float>(trace.confidence[at]),
            .prediction = static_cast<std::size_t>(trace.prediction[at]),
            .classes = 2,
            .probabilities = {}};
  }
  std::optional<float> offload(std::size_t) const { return 1.0f; }
};

// A plan under prices that have moved, after 4,000 samples: the default policy seeks its rule anew.
// Counter: bytes of its saved state.
void replan(benchmark::State& state) {
  const auto exits = static_cast<std::size_t>(state.range(0));
  const Trace stream = network_like_trace(4000, 1.0);
  PolicyOptions options = options_for(exits);
  options.costs = {.lambda1 = 0.08, .lambda2 = 0.02, .offload = 0.3};
  auto policy = make_policy(kDefaultPolicy, options);
  SPLITEE_CHECK(policy.ok());
  EpisodeRunner session(**policy, options);
  for (std::size_t sample = 0; sample < stream.samples(); ++sample) {
    session.run(LinkState::kNone, SpreadRow{stream, sample, exits});
  }
  for (auto _ : state) {
    options.costs.lambda1 = options.costs.lambda1 > 0.075 ? 0.06 : 0.08;
    SPLITEE_CHECK((*policy)->set_costs(options.costs).ok());
    benchmark::DoNotOptimize((*policy)->plan(LinkState::kNone));
  }
  state.counters["state_bytes"] = static_cast<double>((*policy)->save_state().size());
}

void read_trace(benchmark::State& state) {
  const std::string text = format_trace(trace());
  for (auto _ : state) {
    auto parsed = parse_trace(text, "trace");
    SPLITEE_CHECK(parsed.ok());
    benchmark::DoNotOptimize(parsed->confidence.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kSamples));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(text.size()));
}

void register_all() {
  for (const std::string_view name_view : policy_names()) {
    const std::string name(name_view);
    benchmark::RegisterBenchmark(("replay/" + name).c_str(), [name](benchmark::State& state) {
      replay_runs(state, name, Semantics::kDeployable);
    })->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark(("live/" + name).c_str(),
                                 [name](benchmark::State& state) { live_decision(state, name); });
  }
  for (const std::string name : {"splitee", "splitee-s"}) {
    benchmark::RegisterBenchmark(("replay_paper/" + name).c_str(), [name](benchmark::State& state) {
      replay_runs(state, name, Semantics::kPaper);
    })->Unit(benchmark::kMillisecond);
  }
  benchmark::RegisterBenchmark("replan", replan)->Arg(12)->Arg(48)->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("read_trace", read_trace)->Unit(benchmark::kMillisecond);
}

}  // namespace
}  // namespace splitee::policy

int main(int argc, char** argv) {
  splitee::policy::register_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
