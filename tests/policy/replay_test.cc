#include "policy/replay/replay.h"

#include <cmath>
#include <string>

#include <doctest/doctest.h>

#include "base/rng.h"
#include "policy/episode.h"
#include "policy/replay/replay_recorder.h"
#include "tests/policy/planted.h"

namespace splitee::policy {
namespace {

ReplayOptions file_order(std::string policy, std::size_t arms) {
  ReplayOptions options;
  options.policy = std::move(policy);
  options.policy_options = options_for(arms);
  options.order = Order::kFile;
  return options;
}

ReplayResult replayed(const Trace& trace, const ReplayOptions& options) {
  auto result = replay(trace, options);
  REQUIRE(result.ok());
  return std::move(*result);
}

// Three exits, four samples, worked out by hand. alpha 0.8, lambda 0.1, o 0.5.
Trace small_trace() {
  const auto trace = parse_trace(
      "label,pred_1,conf_1,pred_2,conf_2,pred_3,conf_3\n"
      "0,0,0.9,0,0.9,0,0.95\n"
      "1,0,0.6,1,0.8,1,0.85\n"
      ",1,0.7,1,0.7,1,0.9\n"
      "1,1,0.5,0,0.6,0,0.7\n",
      "t.csv");
  REQUIRE(trace.ok());
  return *trace;
}

struct OneSample {
  const Trace& trace;
  std::size_t sample;

  ExitReading evaluate(std::size_t arm) const {
    const std::size_t at = sample * trace.exits + arm;
    return {.confidence = static_cast<float>(trace.confidence[at]),
            .prediction = static_cast<std::size_t>(trace.prediction[at]),
            .classes = trace.classes(),
            .probabilities = {}};
  }
  std::optional<float> offload(std::size_t) const {
    return static_cast<float>(trace.confidence[(sample + 1) * trace.exits - 1]);
  }
};

// However many exits there are, each is read where it was written, and counted as itself.
TEST_CASE("rows of many exits") {
  for (const std::size_t exits : {12u, 13u, 16u, 17u, 33u, 48u, 65u}) {
    CAPTURE(exits);
    const Trace trace = planted_trace(std::vector<double>(exits, 0.5), 40);
    for (const std::size_t arm : {std::size_t{0}, exits / 2, exits - 2}) {
      CAPTURE(arm);
      ReplayOptions options = file_order("fixed", exits);
      options.policy_options.fixed_arm = arm;
      const CostModel& costs = options.policy_options.costs;
      std::size_t sent = 0, right = 0;
      double reward = 0.0;
      for (std::size_t sample = 0; sample < 40; ++sample) {
        const bool here = trace.confidence[sample * exits + arm] >= 0.8;
        const std::size_t answer = sample * exits + (here ? arm : exits - 1);
        sent += here ? 0 : 1;
        right += trace.prediction[answer] == trace.label[sample] ? 1 : 0;
        reward += costs.reward(trace.confidence[answer], costs.cost(arm + 1, 1, !here));
      }
      const ReplayResult result = replayed(trace, options);
      CHECK(result.offload_rate.mean == doctest::Approx(static_cast<double>(sent) / 40));
      CHECK(result.accuracy->mean == doctest::Approx(static_cast<double>(right) / 40));
      REQUIRE(result.mean_reward.size() == exits);
      CHECK(result.mean_reward[arm] == doctest::Approx(reward / 40));
      std::vector<double> share(exits);
      share[arm] = static_cast<double>(40 - sent) / 40;
      CHECK(result.exit_share == share);
    }
  }
}

TEST_CASE("a replay that is ended has the figures of the runs done") {
  ReplayOptions options = file_order("splitee", 3);
  options.order = Order::kShuffled;
  options.runs = 5;
  for (const Semantics semantics : {Semantics::kDeployable, Semantics::kPaper}) {
    options.semantics = semantics;
    options.runs = 3;
    options.go_on = nullptr;
    const ReplayResult three = replayed(small_trace(), options);
    options.runs = 5;
    options.go_on = [](double runs) { return runs < 3; };
    const ReplayResult ended = replayed(small_trace(), options);
    CHECK(ended.runs == 3);
    CHECK(ended.cost.mean == three.cost.mean);
    CHECK(ended.regret.back().regret.mean == three.regret.back().regret.mean);
  }
}

// What an edge with so many samples in progress decides: arm, route and cost of each sample.
std::string decided_by_edge(const Trace& trace, const ReplayOptions& options, std::size_t window) {
  PolicyOptions own = options.policy_options;
  own.seed = mix_seed(run_seed(options, 0));
  const auto policy = make_policy(options.policy, own);
  REQUIRE(policy.ok());
  EpisodeRunner session(**policy, own);
  std::vector<Episode> episodes(trace.samples());
  std::string text;
  for (std::size_t t = 0; t < trace.samples(); ++t) {
    Episode& episode = episodes[t];
    const OneSample network{trace, t};
    if (t >= window) session.learn(episodes[t - window]);
    const bool sent = session.start(episode, LinkState::kUp, network) == EpisodeRunner::Step::kSend;
    if (sent) session.finish(episode, network.offload(0), network, session.offload_cost(episode));
    const Outcome& outcome = episode.outcome;
    const bool chosen_one_by_one = outcome.plan.first != kAsPlanned;
    std::size_t arm = chosen_one_by_one ? outcome.exit_arm : outcome.plan.arm;
    if (chosen_one_by_one && sent) arm = episode.sent_from;
    text += std::to_string(arm) + std::string(route_name(outcome.route)) +
            std::to_string(outcome.cost / own.costs.lambda()) + " ";
  }
  return text;
}

TEST_CASE("a replay decides as an edge with as many samples in progress") {
  const Trace trace = planted_trace({0.3, 0.6, 0.8, 0.9}, 900);
  for (const std::string name : {"audited", "splitee", "splitee-s", "adaptive"}) {
    CAPTURE(name);
    ReplayOptions options = file_order(name, 4);
    options.policy_options.max_disagreement = 0.3;
    options.policy_options.costs = {.lambda1 = 0.08, .lambda2 = 0.02, .offload = 0.4};
    options.seed = 5;
    std::string first;
    for (const std::size_t window : {1u, 30u, 256u}) {
      CAPTURE(window);
      options.window = window;
      std::string text;
      options.on_decision = [&](const Decision& decision) {
        text += std::to_string(decision.arm) + std::string(route_name(decision.route)) +
                std::to_string(decision.cost) + " ";
      };
      (void)replayed(trace, options);
      const bool as_edge = text == decided_by_edge(trace, options, window);  // long texts
      CHECK(as_edge);
      if (window == 1) first = text;
      const bool as_first = text == first;
      CHECK(as_first == (window == 1));
    }
  }
}

TEST_CASE("a window is what an edge can have, and nothing of the published scripts") {
  ReplayOptions options = file_order("splitee", 3);
  options.window = 2000;
  CHECK(!replay(small_trace(), options).ok());
  options.window = 0;
  CHECK(!replay(small_trace(), options).ok());
  options.window = 200;  // more than there are samples
  CHECK(replay(small_trace(), options).ok());
  options.semantics = Semantics::kPaper;
  CHECK(!replay(small_trace(), options).ok());
}

TEST_CASE("a fixed split by hand") {
  ReplayOptions options = file_order("fixed", 3);
  options.policy_options.fixed_arm = 1;
  const ReplayResult result = replayed(small_trace(), options);
  // Exits: samples 0 and 1 (0.8 is sure). Offloads: 2 and 3.
  CHECK(result.samples == 4);
  CHECK(result.runs == 1);
  CHECK(result.cost.mean == doctest::Approx((2 + 2 + 7 + 7) / 4.0));
  CHECK(result.offload_rate.mean == doctest::Approx(0.5));
  CHECK(result.accuracy->mean == doctest::Approx(2.0 / 3.0));
  CHECK(result.accuracy->ci95 == 0.0);
  CHECK(*result.final_accuracy == doctest::Approx(2.0 / 3.0));
  CHECK(result.final_cost == doctest::Approx(3.0));
  CHECK(result.cost_reduction == doctest::Approx(1.0 - 4.5 / 3.0));
  CHECK(result.exit_share == std::vector<double>{0.0, 0.5, 0.0});
  // Mean rewards: arm 0: (.8 + .25 + .3 + .1) / 4; arm 1: (.7 + .6 + .2 + 0) / 4;
  // arm 2: (.65 + .55 + .6 + .4) / 4.
  REQUIRE(result.mean_reward.size() == 3);
  CHECK(result.mean_reward[0] == doctest::Approx(1.45 / 4));
  CHECK(result.mean_reward[1] == doctest::Approx(1.5 / 4));
  CHECK(result.mean_reward[2] == doctest::Approx(2.2 / 4));
  CHECK(result.best_arm == 2);
  REQUIRE(result.regret.size() == 3);  // t = 1, 2, 4
  CHECK(result.regret[0].t == 1);
  CHECK(result.regret[0].regret.mean == doctest::Approx(-0.05));
  CHECK(result.regret[1].regret.mean == doctest::Approx(-0.1));
  CHECK(result.regret[2].t == 4);
  CHECK(result.regret[2].regret.mean == doctest::Approx(2.2 - 1.5));
}

TEST_CASE("threshold, final, offload and oracle by hand") {
  const Trace trace = small_trace();
  const ReplayResult threshold = replayed(trace, file_order("threshold", 3));
  CHECK(threshold.cost.mean == doctest::Approx((1 + 2 + 3 + 3) / 4.0));
  CHECK(threshold.offload_rate.mean == 0.0);
  CHECK(threshold.exit_share == std::vector<double>{0.25, 0.25, 0.5});
  const ReplayResult final_exit = replayed(trace, file_order("final", 3));
  CHECK(final_exit.cost.mean == doctest::Approx(3.0));
  CHECK(final_exit.cost_reduction == doctest::Approx(0.0));
  CHECK(final_exit.accuracy->mean == doctest::Approx(*final_exit.final_accuracy));
  const ReplayResult offload = replayed(trace, file_order("offload", 3));
  CHECK(offload.cost.mean == doctest::Approx(5.0));
  CHECK(offload.offload_rate.mean == 1.0);
  CHECK(offload.exit_share == std::vector<double>{0.0, 0.0, 0.0});
  const ReplayResult oracle = replayed(trace, file_order("oracle", 3));
  CHECK(oracle.policy == "oracle");
  CHECK(oracle.regret.back().regret.mean == doctest::Approx(0.0));
  CHECK(oracle.cost.mean == doctest::Approx(3.0));
}

TEST_CASE("regret is against one oracle, whatever the policy looks at and where it sends") {
  const Trace trace = small_trace();
  for (const bool server : {true, false}) {
    CAPTURE(server);
    ReplayOptions options = file_order("fixed", 3);
    options.server = server;
    options.policy_options.costs = {.lambda1 = 0.08, .lambda2 = 0.02, .offload = 0.5};
    const ReplayResult fixed = replayed(trace, options);
    for (const std::string name : {"splitee-s", "adaptive", "threshold", "audited"}) {
      CAPTURE(name);
      options.policy = name;
      double got = 0.0;
      options.on_decision = [&](const Decision& decision) { got += decision.reward; };
      const ReplayResult result = replayed(trace, options);
      CHECK(result.best_arm == fixed.best_arm);
      CHECK(result.mean_reward == fixed.mean_reward);
      CHECK(result.regret.back().regret.mean ==
            doctest::Approx(4.0 * fixed.mean_reward[fixed.best_arm] - got));
    }
    options.policy = "oracle";
    options.on_decision = nullptr;
    CHECK(replayed(trace, options).regret.back().regret.mean == doctest::Approx(0.0));
  }
}

TEST_CASE("the cost of exit heads is charged as evaluated") {
  ReplayOptions options = file_order("threshold", 3);
  options.policy_options.costs = {.lambda1 = 0.08, .lambda2 = 0.02, .offload = 0.5};
  const ReplayResult threshold = replayed(small_trace(), options);
  CHECK(threshold.cost.mean == doctest::Approx((1 + 2 + 3 + 3) / 4.0));
  options.policy = "final";
  const ReplayResult final_exit = replayed(small_trace(), options);
  CHECK(final_exit.cost.mean == doctest::Approx(2.6));
  CHECK(final_exit.final_cost == doctest::Approx(2.6));
}

TEST_CASE("costs that change in mid-stream") {
  ReplayOptions options = file_order("fixed", 3);
  options.policy_options.fixed_arm = 1;
  options.changes = {{.t = 2, .offload = 0.1}};
  const ReplayResult result = replayed(small_trace(), options);
  CHECK(result.cost.mean == doctest::Approx((2 + 2 + 3 + 3) / 4.0));
  // The best arm is the last one before the change, the first one after it (.7 and .5 there).
  CHECK(result.best_arm == 2);
  CHECK(result.regret.back().regret.mean == doctest::Approx(-0.05 - 0.05 + 0.1 + 0.1));

  const auto refused = [&](std::vector<CostChange> changes, Semantics semantics) {
    options.policy = "splitee";
    options.changes = std::move(changes);
    options.semantics = semantics;
    return !replay(small_trace(), options).ok();
  };
  CHECK(refused({{.t = 0, .offload = 0.1}}, Semantics::kDeployable));
  CHECK(refused({{.t = 4, .offload = 0.1}}, Semantics::kDeployable));
  CHECK(refused({{.t = 2, .offload = 0.1}, {.t = 2, .offload = 0.2}}, Semantics::kDeployable));
  CHECK(refused({{.t = 2, .offload = -0.1}}, Semantics::kDeployable));
  CHECK(refused({{.t = 2, .offload = 0.1}}, Semantics::kPaper));
  CHECK_FALSE(refused({{.t = 2, .offload = 0.1}}, Semantics::kDeployable));
}

TEST_CASE("a trace without labels has no accuracy") {
  Trace trace = small_trace();
  std::ranges::fill(trace.label, kNoLabel);
  const ReplayResult result = replayed(trace, file_order("final", 3));
  CHECK(!result.accuracy.has_value());
  CHECK(!result.final_accuracy.has_value());
}

TEST_CASE("runs differ by order and seed, and repeat by seed") {
  const Trace trace = planted_trace({0.3, 0.5, 0.9, 1.0}, 500);
  ReplayOptions options = file_order("splitee", 4);
  options.order = Order::kShuffled;
  options.runs = 5;
  std::string stories[3];
  for (std::size_t i = 0; i < 3; ++i) {
    options.seed = i == 2 ? 8 : 7;
    options.on_decision = [&](const Decision& d) {
      stories[i] += std::to_string(d.sample) + ":" + std::to_string(d.arm) + " ";
    };
    const ReplayResult result = replayed(trace, options);
    CHECK(result.cost.ci95 > 0.0);
  }
  CHECK(stories[0] == stories[1]);
  CHECK(stories[0] != stories[2]);

  // Every run visits every sample once.
  std::vector<std::size_t> visits(500);
  options.on_decision = [&](const Decision& d) { ++visits[d.sample]; };
  (void)replayed(trace, options);
  for (const std::size_t count : visits) CHECK(count == 5);
}

TEST_CASE("decisions add up to the totals") {
  const Trace trace = planted_trace({0.3, 0.5, 0.9, 1.0}, 400);
  ReplayOptions options = file_order("splitee-s", 4);
  options.runs = 2;
  double cost = 0;
  std::size_t offloads = 0, last_t = 0, last_run = 0;
  options.on_decision = [&](const Decision& d) {
    cost += d.cost;
    offloads += d.route == Route::kOffload ? 1 : 0;
    last_t = d.t;
    last_run = d.run;
  };
  const ReplayResult result = replayed(trace, options);
  CHECK(result.cost.mean == doctest::Approx(cost / 800));
  CHECK(result.offload_rate.mean == doctest::Approx(static_cast<double>(offloads) / 800));
  CHECK(last_t == 399);
  CHECK(last_run == 1);
}

TEST_CASE("an estimate is a mean with Student's interval") {
  const std::vector<double> values = {1.0, 2.0, 3.0};
  CHECK(estimate(values).mean == doctest::Approx(2.0));
  CHECK(estimate(values).ci95 == doctest::Approx(4.303 / std::sqrt(3.0)));
  CHECK(estimate(std::vector<double>{5.0}).ci95 == 0.0);
}

TEST_CASE("what does not fit the trace is refused") {
  const Trace trace = small_trace();
  ReplayOptions options = file_order("splitee", 4);
  CHECK(!replay(trace, options).ok());
  options = file_order("nothing", 3);
  CHECK(!replay(trace, options).ok());
  options = file_order("splitee", 3);
  options.runs = 0;
  CHECK(!replay(trace, options).ok());
  options.runs = 1;
  options.policy_options.layer_of.clear();
  CHECK(replay(trace, options).ok());
  Trace empty;
  empty.exits = 3;
  CHECK(!replay(empty, options).ok());
}

}  // namespace
}  // namespace splitee::policy
