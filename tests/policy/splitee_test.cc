// The learners: numbers against a plain independent computation, and what they converge to.
#include "policy/learners/splitee.h"

#include <cmath>
#include <map>
#include <string>

#include <doctest/doctest.h>

#include "policy/replay/replay.h"
#include "tests/policy/planted.h"

namespace splitee::policy {
namespace {

ReplayOptions replay_options(std::string policy, std::size_t arms, std::size_t runs) {
  ReplayOptions options;
  options.policy = std::move(policy);
  options.policy_options = options_for(arms);
  options.runs = runs;
  options.seed = kTestSeed;
  return options;
}

ReplayResult replayed(const Trace& trace, const ReplayOptions& options) {
  auto result = replay(trace, options);
  REQUIRE(result.ok());
  CHECK(result->rejected == 0);
  return std::move(*result);
}

double regret_at(const ReplayResult& result, std::size_t t) {
  for (const RegretPoint& point : result.regret) {
    if (point.t == t) return point.regret.mean;
  }
  FAIL("no such point");
  return 0;
}

TEST_CASE("splitee plays what UCB1 written down plainly plays") {
  Rng rng(kTestSeed);
  Trace trace = planted_trace({0.1, 0.4, 0.6, 0.9, 1.0}, 3000);
  for (double& confidence : trace.confidence) {
    confidence = static_cast<double>(static_cast<float>(confidence - 0.1 * rng.uniform()));
  }
  ReplayOptions options = replay_options("splitee", 5, 1);
  options.order = Order::kFile;
  options.policy_options.costs = {.lambda1 = 0.08, .lambda2 = 0.02, .offload = 0.2, .mu = 0.7};
  options.policy_options.exploration = 0.6;
  std::vector<Decision> decisions;
  options.on_decision = [&](const Decision& decision) { decisions.push_back(decision); };
  (void)replayed(trace, options);
  REQUIRE(decisions.size() == 3000);

  std::map<std::size_t, std::vector<double>> seen;
  const float alpha = 0.8f;
  std::size_t different = 0;
  for (std::size_t t = 0; t < 3000; ++t) {
    std::size_t arm = seen.size();
    if (seen.size() == 5) {
      double best = -1e9;
      for (const auto& [candidate, rewards] : seen) {
        double mean = 0;
        for (const double r : rewards) mean += r / static_cast<double>(rewards.size());
        const double n = static_cast<double>(rewards.size());
        const double index = mean + 0.6 * std::sqrt(std::log(static_cast<double>(t)) / n);
        if (index > best + 1e-12) {
          best = index;
          arm = candidate;
        }
      }
    }
    const auto conf = [&](std::size_t a) { return trace.confidence[5 * t + a]; };
    const bool exits = arm == 4 || static_cast<float>(conf(arm)) >= alpha;
    const double cost = 0.08 * static_cast<double>(arm + 1) + 0.02 + (exits ? 0.0 : 0.2);
    const double reward = conf(exits ? arm : 4) - 0.7 * cost;
    different += decisions[t].arm == arm ? 0 : 1;
    CHECK(decisions[t].reward == doctest::Approx(reward));
    CHECK(decisions[t].cost == doctest::Approx(cost / 0.1));
    CHECK((decisions[t].route == (arm == 4 ? Route::kFinal
                                  : exits  ? Route::kExit
                                           : Route::kOffload)));
    seen[arm].push_back(reward);
  }
  CHECK(different == 0);
}

TEST_CASE("splitee-s plays what splitee_s.h says, written down plainly") {
  constexpr std::size_t kExits = 5;
  const Trace trace = planted_trace({0.3, 0.5, 0.6, 0.7, 1.0}, 3000);
  ReplayOptions options = replay_options("splitee-s", kExits, 1);
  options.order = Order::kFile;
  options.policy_options.costs = {.lambda1 = 0.08, .lambda2 = 0.02, .offload = 0.2, .mu = 0.7};
  options.policy_options.exploration = 0.6;
  struct Arm {
    double seen = 0;
    std::vector<double> exits, misses;
  };
  std::vector<Arm> arms(kExits);
  const auto cost = [](std::size_t arm) { return 0.1 * static_cast<double>(arm + 1); };
  const auto sum_of = [](const std::vector<double>& values) {
    double sum = 0;
    for (const double v : values) sum += v;
    return sum;
  };
  double t = 0;
  std::size_t different = 0;
  options.on_decision = [&](const Decision& d) {
    double scatter = 0, misses = 0;
    for (const Arm& arm : arms) {
      const double n = static_cast<double>(arm.misses.size());
      for (const double w : arm.misses) scatter += std::pow(w - sum_of(arm.misses) / n, 2);
      misses += n;
    }
    std::vector<double> index(kExits);
    for (std::size_t i = 0; i < kExits; ++i) {
      const Arm& arm = arms[i];
      const double m = static_cast<double>(arm.misses.size());
      const double unsure = 1.0 - static_cast<double>(arm.exits.size()) / arm.seen;
      const double w = m > 0 ? sum_of(arm.misses) / m : 1.0 - 0.7 * cost(i);
      const double s2 = (scatter + 4.0 * 0.25) / (misses + 4.0);
      const double inverse = 1.0 / arm.seen + (m > 0 ? unsure * unsure * 4.0 * s2 / m : 0.0);
      index[i] = sum_of(arm.exits) / arm.seen + unsure * w + 0.6 * std::sqrt(std::log(t) * inverse);
    }
    if (std::ranges::all_of(arms, [](const Arm& arm) { return arm.seen > 0; })) {
      different += *std::ranges::max_element(index) - index[d.arm] < 1e-3 ? 0 : 1;
    }
    t += 1.0;
    for (std::size_t i = 0; i <= d.arm; ++i) {
      const double confidence = trace.confidence[kExits * d.sample + i];
      const bool last = i + 1 == kExits;
      arms[i].seen += 1.0;
      if (last || confidence >= 0.8) {
        arms[i].exits.push_back(confidence - 0.7 * cost(i));
      } else if (i == d.arm) {
        arms[i].misses.push_back(0.95 - 0.7 * (cost(i) + 0.2));
      }
    }
  };
  (void)replayed(trace, options);
  CHECK(different < 10);  // s^2 comes into an arm's bonus when the arm is seen, not before
}

TEST_CASE("regret grows sublinearly on planted arms") {
  const Trace trace = planted_trace({0.05, 0.3, 0.85, 0.9, 0.92, 1.0}, 50'000);
  for (const std::string policy : {"splitee", "splitee-s"}) {
    CAPTURE(policy);
    const ReplayResult result = replayed(trace, replay_options(policy, 6, 4));
    CHECK(result.best_arm == 2);
    const double early = regret_at(result, 1000);
    const double late = regret_at(result, 50'000);
    CHECK(early > 10.0);
    // UCB1's regret is logarithmic, about sqrt(t) before that; a policy that never learns has 50.
    CHECK(late < 12.0 * early);
    const ReplayResult random = replayed(trace, replay_options("random", 6, 4));
    CHECK(regret_at(random, 50'000) > 45.0 * regret_at(random, 1000));
    CHECK(late < 0.2 * regret_at(random, 50'000));
  }
}

TEST_CASE("side observations do not bias splitee-s, the known ones alone do") {
  const Trace trace = selection_trace(20'000);
  // Arm 0: 0.6 * 0.99 + 0.4 * (0.55 - 0.3) - 0.1 = 0.594. Arm 1: 0.99 - 0.2 = 0.79.
  ReplayOptions options = replay_options("splitee-s", 3, 4);
  options.policy_options.costs.offload = 0.3;
  const ReplayResult unbiased = replayed(trace, options);
  CHECK(unbiased.best_arm == 1);
  options.policy = "splitee-s-known";
  const ReplayResult known = replayed(trace, options);
  options.policy = "splitee";
  const ReplayResult plain = replayed(trace, options);
  // Known-only takes arm 0 for 0.99 - 0.1 whenever it looks from above: it keeps coming back.
  MESSAGE("regret: splitee-s " << regret_at(unbiased, 20'000) << ", known-only "
                               << regret_at(known, 20'000) << ", splitee "
                               << regret_at(plain, 20'000));
  CHECK(regret_at(known, 20'000) > 3.0 * regret_at(unbiased, 20'000));
  CHECK(regret_at(unbiased, 20'000) <= regret_at(plain, 20'000));
}

TEST_CASE("the arm of the largest index is found for any number of arms") {
  Rng rng(kTestSeed);
  for (std::size_t arms = 1; arms <= 70; ++arms) {
    std::vector<double> mean(arms), width(arms);
    for (int round = 0; round < 200; ++round) {
      for (std::size_t arm = 0; arm < arms; ++arm) {
        mean[arm] = 0.25 * rng.below(8) - 1.0;  // few values: ties are common
        width[arm] = 0.5 * (1 + rng.below(2));
      }
      std::size_t expected = 0;
      for (std::size_t arm = 1; arm < arms; ++arm) {
        if (mean[arm] + 0.5 * width[arm] > mean[expected] + 0.5 * width[expected]) expected = arm;
      }
      REQUIRE(largest_index(mean, width, 0.5) == expected);
    }
  }
}

TEST_CASE("ties go to the lowest arm") {
  const std::vector<double> mean = {0.1, 0.3, 0.3, 0.2};
  const std::vector<double> width(4, 0.5);
  CHECK(largest_index(mean, width, 1.0) == 1);
  const std::vector<double> wide = {0.1, 0.1, 0.1, 0.4};
  CHECK(largest_index(mean, wide, 1.0) == 3);
  CHECK(largest_index(mean, wide, 0.0) == 1);
}

}  // namespace
}  // namespace splitee::policy
