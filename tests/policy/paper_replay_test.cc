// Paper semantics against a second, plain implementation of what the published scripts compute.
#include <cmath>
#include <string>

#include <doctest/doctest.h>

#include "policy/replay/replay.h"
#include "tests/policy/planted.h"

namespace splitee::policy {
namespace {

// Confidences over the whole range, many of them equal, so that ties and alpha itself occur.
Trace rough_trace(std::size_t exits, std::size_t samples, std::uint64_t seed) {
  Rng rng(seed);
  Trace trace;
  trace.exits = exits;
  for (std::size_t sample = 0; sample < samples; ++sample) {
    trace.label.push_back(static_cast<ClassNumber>(rng.below(3)));
    for (std::size_t exit = 0; exit < exits; ++exit) {
      trace.prediction.push_back(static_cast<ClassNumber>(rng.below(3)));
      trace.confidence.push_back((33.0 + rng.below(67)) / 100.0);
    }
  }
  return trace;
}

struct Expected {
  std::vector<std::size_t> arms;
  std::vector<double> rewards;
  double cost = 0;  // in units of reward
  std::size_t right = 0, offloads = 0, best_arm = 0;
};

Expected expected_bandit(const Trace& trace, double alpha, double lambda, double o, bool side) {
  const std::size_t count = trace.exits;
  const auto confidence = [&](std::size_t s, std::size_t e) {
    return trace.confidence.at(s * count + e);
  };
  const auto reward = [&](std::size_t s, std::size_t e) {
    const double layers = lambda * static_cast<double>(e + 1);
    if (e + 1 < count && confidence(s, e) < alpha) return confidence(s, count - 1) - o - layers;
    return confidence(s, e) - layers;
  };
  std::vector<double> total(count), pulls(count, 1.0);
  for (std::size_t e = 0; e < count; ++e) total[e] = reward(e, e);
  Expected expected;
  for (std::size_t s = 0; s < trace.samples(); ++s) {
    std::size_t arm = 0;
    double highest = -1e300;
    for (std::size_t e = 0; e < count; ++e) {
      const double bound =
          total[e] / pulls[e] + 1.0 * std::sqrt(std::log(static_cast<double>(s + 1)) / pulls[e]);
      if (bound > highest) {
        highest = bound;
        arm = e;
      }
    }
    for (std::size_t e = side ? 0 : arm; e <= arm; ++e) {
      total[e] += reward(s, e);
      pulls[e] += 1.0;
    }
    const bool sent = arm + 1 < count && confidence(s, arm) < alpha;
    expected.arms.push_back(arm);
    expected.rewards.push_back(reward(s, arm));
    expected.offloads += sent ? 1 : 0;
    const auto depth = static_cast<double>(arm);
    expected.cost += side ? lambda * (depth + 1) : 0.8 * lambda * depth + lambda;
    expected.cost += sent ? o : 0.0;
    const std::size_t answer = sent ? count - 1 : arm;
    expected.right += trace.prediction.at(s * count + answer) == trace.label.at(s) ? 1 : 0;
  }
  for (std::size_t e = 1; e < count; ++e) {
    if (total[e] > total[expected.best_arm]) expected.best_arm = e;
  }
  return expected;
}

ReplayOptions paper_options(std::string policy, std::size_t exits) {
  ReplayOptions options;
  options.policy = std::move(policy);
  options.policy_options = options_for(exits);
  options.order = Order::kFile;
  options.semantics = Semantics::kPaper;
  return options;
}

TEST_CASE("paper semantics play the published scripts' arms") {
  for (const std::size_t exits : {2u, 6u, 12u, 17u}) {
    for (const double alpha : {0.6, 0.7, 0.85}) {
      // Dear layers: all rewards negative, and the largest sum is not that of the best mean.
      const double lambda = alpha == 0.85 ? 0.4 : 0.1;
      for (const double o : {0.1, 0.35, 0.5}) {
        for (const bool side : {false, true}) {
          CAPTURE(exits);
          CAPTURE(alpha);
          CAPTURE(o);
          CAPTURE(side);
          const Trace trace = rough_trace(exits, 2000, kTestSeed + exits);
          ReplayOptions options = paper_options(side ? "splitee-s" : "splitee", exits);
          options.policy_options.alpha = alpha;
          options.policy_options.costs.offload = o;
          options.policy_options.costs.lambda1 = lambda;
          std::vector<std::size_t> arms;
          std::vector<double> rewards;
          options.on_decision = [&](const Decision& d) {
            arms.push_back(d.arm);
            rewards.push_back(d.reward);
          };
          const auto result = replay(trace, options);
          REQUIRE(result.ok());
          const Expected expected = expected_bandit(trace, alpha, lambda, o, side);
          CHECK(arms == expected.arms);
          CHECK(rewards == expected.rewards);
          CHECK(result->cost.mean == doctest::Approx(expected.cost / lambda / 2000));
          CHECK(result->accuracy->mean ==
                doctest::Approx(static_cast<double>(expected.right) / 2000));
          CHECK(result->offload_rate.mean ==
                doctest::Approx(static_cast<double>(expected.offloads) / 2000));
          CHECK(result->best_arm == expected.best_arm);
          CHECK(result->final_cost == doctest::Approx(static_cast<double>(exits)));
        }
      }
    }
  }
}

TEST_CASE("each departure of the published scripts can be taken out") {
  const Trace trace = rough_trace(6, 2000, kTestSeed);
  struct Run {
    std::vector<std::size_t> arms;
    std::vector<double> costs;
  };
  const auto run = [&](std::string policy, PaperDepartures departures) {
    ReplayOptions options = paper_options(std::move(policy), 6);
    options.departures = departures;
    Run made;
    options.on_decision = [&](const Decision& d) {
      made.arms.push_back(d.arm);
      made.costs.push_back(d.cost);
    };
    REQUIRE(replay(trace, options).ok());
    return made;
  };
  for (const std::string policy : {"splitee", "splitee-s"}) {
    CAPTURE(policy);
    const Run published = run(policy, {});
    const Run whole = run(policy, {.reported_split = false});
    CHECK(whole.arms == published.arms);
    for (std::size_t t = 0; t < 2000; ++t) {
      const double less = policy == "splitee" ? 0.2 * static_cast<double>(published.arms[t]) : 0.0;
      CHECK(whole.costs[t] - published.costs[t] == doctest::Approx(less));
    }
    // In the stream, the first pulls are its first samples.
    const Run charged = run(policy, {.free_first_pulls = false});
    for (std::size_t t = 0; t < 6; ++t) CHECK(charged.arms[t] == t);
    CHECK(charged.arms != published.arms);
    CHECK(run(policy, {.log_from_stream = false}).arms != published.arms);
    CHECK((run(policy, {.peeks = false}).arms == published.arms) == (policy == "splitee"));
  }
}

TEST_CASE("without its departures splitee is the deployable one") {
  // Confidences that are floats, so that both see the same numbers.
  Trace trace = rough_trace(6, 2000, kTestSeed);
  for (double& confidence : trace.confidence) {
    confidence = static_cast<double>(static_cast<float>(confidence));
  }
  std::vector<std::size_t> arms[2];
  for (const std::size_t i : {0u, 1u}) {
    ReplayOptions options = paper_options("splitee", 6);
    options.policy_options.alpha = 0.75;
    options.semantics = i == 0 ? Semantics::kPaper : Semantics::kDeployable;
    options.departures = {.reported_split = false,
                          .log_from_stream = false,
                          .free_first_pulls = false,
                          .peeks = false};
    options.on_decision = [&](const Decision& d) { arms[i].push_back(d.arm); };
    REQUIRE(replay(trace, options).ok());
  }
  CHECK(arms[0] == arms[1]);
}

TEST_CASE("the ElasticBERT baseline, corrected and as published") {
  // alpha 0.8; exits 0-based: sample 0 passes at 0, 1 at 1, 2 at 2 (the last but one), 3 nowhere.
  const auto trace = parse_trace(
      "label,pred_1,conf_1,pred_2,conf_2,pred_3,conf_3,pred_4,conf_4\n"
      "0,0,0.8,1,0.9,0,0.9,0,0.9\n"
      "0,0,0.5,0,0.8,1,0.9,0,0.9\n"
      "0,0,0.5,0,0.5,0,0.8,1,0.5\n"
      "0,1,0.5,1,0.5,1,0.5,0,0.5\n",
      "t.csv");
  REQUIRE(trace.ok());
  const auto corrected = replay(*trace, paper_options("threshold", 4));
  REQUIRE(corrected.ok());
  CHECK(corrected->cost.mean == doctest::Approx((1 + 2 + 3 + 4) / 4.0));
  CHECK(corrected->accuracy->mean == 1.0);
  const auto published = replay(*trace, paper_options("threshold-published", 4));
  REQUIRE(published.ok());
  CHECK(published->cost.mean == doctest::Approx((2 + 3 + 4 + 4) / 4.0));
  CHECK(published->accuracy->mean == doctest::Approx(0.25));
}

TEST_CASE("paper semantics refuse what was never published") {
  const Trace trace = rough_trace(4, 50, 1);
  CHECK(!replay(trace, paper_options("random", 4)).ok());
  CHECK(!replay(rough_trace(4, 3, 1), paper_options("splitee", 4)).ok());
  ReplayOptions options = paper_options("splitee", 4);
  options.policy_options.alpha = 2.0;
  CHECK(!replay(trace, options).ok());
  options = paper_options("threshold-published", 4);
  options.semantics = Semantics::kDeployable;
  CHECK(!replay(trace, options).ok());
}

}  // namespace
}  // namespace splitee::policy
