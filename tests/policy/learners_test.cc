// Learners against their formulas written down plainly, over whole histories.
#include "policy/learners/learners.h"

#include <cmath>
#include <functional>
#include <string>

#include <doctest/doctest.h>

#include "policy/replay/replay.h"
#include "tests/policy/planted.h"

namespace splitee::policy {
namespace {

constexpr std::size_t kArms = 4;

struct Pull {
  std::size_t arm;
  double reward;
};

// Index of one arm from the whole history.
using PlainIndex = std::function<double(const std::vector<Pull>& history, std::size_t arm)>;

Trace noisy_trace(std::size_t samples) {
  Rng rng(kTestSeed);
  Trace trace = planted_trace({0.2, 0.5, 0.7, 1.0}, samples);
  for (double& confidence : trace.confidence) {
    confidence = static_cast<double>(static_cast<float>(confidence - 0.09 * rng.uniform()));
  }
  return trace;
}

// Share of samples on which the policy plays the arm with the largest plain index.
double agreement(const std::string& policy, const PlainIndex& plain) {
  const std::size_t samples = 1500;
  ReplayOptions options;
  options.policy = policy;
  options.policy_options = options_for(kArms);
  options.policy_options.exploration = 0.7;
  options.policy_options.discount = 0.99;
  options.policy_options.window = 60;
  options.order = Order::kFile;
  std::vector<Pull> history;
  std::size_t agreed = 0;
  options.on_decision = [&](const Decision& decision) {
    std::vector<double> index(kArms);
    for (std::size_t arm = 0; arm < kArms; ++arm) {
      const bool seen = std::ranges::any_of(history, [&](const Pull& p) { return p.arm == arm; });
      index[arm] = seen ? plain(history, arm) : 1e9 - static_cast<double>(arm);
    }
    const double highest = *std::ranges::max_element(index);
    agreed += highest - index[decision.arm] < 1e-9 ? 1 : 0;
    history.push_back({decision.arm, decision.reward});
  };
  REQUIRE(replay(noisy_trace(samples), options).ok());
  return static_cast<double>(agreed) / static_cast<double>(samples);
}

// Rewards in [0, 1]: from 0 - (0.4 + 0.5) to 1 - 0.1 for four layers of 0.1 and o = 0.5.
struct Moments {
  double mean = 0, variance = 0, count = 0, log_t = 0;
};
Moments moments(const std::vector<Pull>& history, std::size_t arm) {
  Moments m;
  const auto scaled = [](const Pull& p) { return (p.reward + 0.9) / 1.8; };
  for (const Pull& p : history) m.count += p.arm == arm ? 1 : 0;
  for (const Pull& p : history) m.mean += p.arm == arm ? scaled(p) / m.count : 0;
  for (const Pull& p : history) {
    m.variance += p.arm == arm ? std::pow(scaled(p) - m.mean, 2) / m.count : 0;
  }
  m.log_t = std::log(static_cast<double>(history.size()));
  return m;
}

TEST_CASE("index learners play their published index") {
  const double c = 0.7;
  CHECK(agreement("ucb1-range", [&](const auto& history, std::size_t arm) {
          const Moments m = moments(history, arm);
          return m.mean + c * std::sqrt(2 * m.log_t / m.count);
        }) == 1.0);
  CHECK(agreement("ucb-v", [&](const auto& history, std::size_t arm) {
          const Moments m = moments(history, arm);
          return m.mean + c * std::sqrt(2 * m.variance * m.log_t / m.count) +
                 c * 3 * m.log_t / m.count;
        }) == 1.0);
  CHECK(agreement("ucb-tuned", [&](const auto& history, std::size_t arm) {
          const Moments m = moments(history, arm);
          const double v = m.variance + std::sqrt(2 * m.log_t / m.count);
          return m.mean + c * std::sqrt(m.log_t / m.count * std::min(0.25, v));
        }) == 1.0);
  CHECK(agreement("bayes-ucb", [&](const auto& history, std::size_t arm) {
          const Moments m = moments(history, arm);
          double low = 0, high = 10;  // quantile by bisection of erfc
          for (int i = 0; i < 80; ++i) {
            const double z = (low + high) / 2;
            const double beyond = 0.5 * std::erfc(z / std::sqrt(2.0));
            (beyond > std::exp(-std::max(m.log_t, std::log(2.0))) ? low : high) = z;
          }
          const double variance = (m.count * m.variance + 0.25) / (m.count + 1);
          return m.mean + c * low * std::sqrt(variance / m.count);
        }) > 0.998);
  CHECK(agreement("kl-ucb", [&](const auto& history, std::size_t arm) {
          const Moments m = moments(history, arm);
          double q = m.mean;  // by small steps, then smaller ones
          for (double step = 0.01; step > 1e-11; step /= 10) {
            const auto kl = [&](double x) {
              return m.mean * std::log(m.mean / x) +
                     (1 - m.mean) * std::log((1 - m.mean) / (1 - x));
            };
            while (q + step < 1 && m.count * kl(q + step) <= c * m.log_t) q += step;
          }
          return q;
        }) > 0.995);
}

TEST_CASE("forgetting learners weigh the past as published") {
  const double c = 0.7;
  CHECK(agreement("discounted", [&](const auto& history, std::size_t arm) {
          double sum = 0, count = 0, rounds = 0, weight = 1;
          for (std::size_t i = history.size(); i-- > 0; weight *= 0.99) {
            rounds += weight;
            count += history[i].arm == arm ? weight : 0;
            sum += history[i].arm == arm ? weight * history[i].reward : 0;
          }
          return sum / count + c * std::sqrt(std::log(rounds) / count);
        }) > 0.998);
  CHECK(agreement("window", [&](const auto& history, std::size_t arm) {
          double sum = 0, count = 0;
          const std::size_t held = std::min<std::size_t>(history.size(), 60);
          for (std::size_t i = history.size() - held; i < history.size(); ++i) {
            count += history[i].arm == arm ? 1 : 0;
            sum += history[i].arm == arm ? history[i].reward : 0;
          }
          if (count == 0) return 1e9 - static_cast<double>(arm);
          return sum / count + c * std::sqrt(std::log(static_cast<double>(held)) / count);
        }) > 0.998);
}

TEST_CASE("every learner's regret grows sublinearly on planted arms") {
  const Trace trace = planted_trace({0.05, 0.3, 0.85, 0.9, 0.92, 1.0}, 20'000);
  ReplayOptions options;
  options.policy_options = options_for(6);
  options.runs = 3;
  options.seed = kTestSeed;
  const auto regret = [&](std::string policy, std::size_t t) {
    options.policy = std::move(policy);
    const auto result = replay(trace, options);
    REQUIRE(result.ok());
    CHECK(result->best_arm == 2);
    CHECK(result->rejected == 0);
    for (const RegretPoint& point : result->regret) {
      if (point.t == t) return point.regret.mean;
    }
    return 0.0;
  };
  const double at_random = regret("random", 20'000);
  for (const std::string policy :
       {"ucb1-range", "ucb-v", "ucb-tuned", "kl-ucb", "bayes-ucb", "thompson", "restart"}) {
    CAPTURE(policy);
    const double late = regret(policy, 20'000);
    CHECK(late < 0.5 * at_random);
    CHECK(late < 12.0 * regret(policy, 1000) + 20.0);  // 20 without learning
  }
}

TEST_CASE("the change detector and forgetting beat UCB1 after a change, which fails") {
  // Before: exit 1 is almost always sure. After 20,000 samples it never is, and exit 4 is.
  const Trace trace =
      joined(planted_trace({0.0, 0.95, 0.96, 0.97, 0.97, 1.0}, 20'000, kTestSeed),
             planted_trace({0.0, 0.0, 0.05, 0.95, 0.96, 1.0}, 20'000, kTestSeed + 1));
  // Reward lost in the 5,000 samples after the change, against always exit 4 (index 3).
  const auto lost = [&](std::string policy) {
    ReplayOptions options;
    options.policy = std::move(policy);
    options.policy_options = options_for(6);
    options.policy_options.costs.offload = 0.6;
    options.policy_options.exploration = 0.5;
    options.order = Order::kFile;
    double got = 0;
    options.on_decision = [&](const Decision& d) {
      got += d.t >= 20'000 && d.t < 25'000 ? d.reward : 0.0;
    };
    REQUIRE(replay(trace, options).ok());
    options.on_decision = nullptr;
    const double best = 0.95 * (0.9 - 0.4) + 0.05 * (0.95 - 1.0);
    return best * 5000 - got;
  };
  const double plain = lost("splitee"), restarted = lost("restart");
  MESSAGE("lost in 5,000 samples after the change: splitee "
          << plain << ", restart " << restarted << ", discounted " << lost("discounted")
          << ", window " << lost("window"));
  const double bound = 300.0;
  CHECK(restarted < bound);
  CHECK(plain > bound);
}

TEST_CASE("the change detector sees an arm become better too") {
  // Exit 4 is best, until exit 2 becomes as sure as that.
  const Trace trace =
      joined(planted_trace({0.0, 0.1, 0.1, 0.95, 0.95, 1.0}, 20'000, kTestSeed),
             planted_trace({0.0, 0.95, 0.95, 0.95, 0.95, 1.0}, 20'000, kTestSeed + 1));
  ReplayOptions options;
  options.policy_options = options_for(6);
  options.policy_options.costs.offload = 0.6;
  options.policy_options.exploration = 0.2;
  options.order = Order::kFile;
  std::size_t on_the_new_best = 0;
  options.on_decision = [&](const Decision& d) {
    on_the_new_best += d.t >= 25'000 && d.arm == 1 ? 1 : 0;
  };
  options.policy = "restart";
  REQUIRE(replay(trace, options).ok());
  CHECK(on_the_new_best > 9'000);
}

TEST_CASE("equal arms are played in turn, the lowest first") {
  PolicyOptions options = options_for(kArms);
  options.costs.mu = 0.0;
  options.discount = 1.0;
  const std::vector<float> confidence(kArms, 0.9f);
  for (const std::string name : {"splitee", "ucb1-range", "ucb-v", "ucb-tuned", "kl-ucb",
                                 "bayes-ucb", "discounted", "window"}) {
    CAPTURE(name);
    const auto policy = make_policy(name, options);
    REQUIRE(policy.ok());
    for (std::size_t i = 0; i < 5 * kArms; ++i) {
      Outcome outcome;
      outcome.plan = (*policy)->plan(LinkState::kUp);
      CHECK(outcome.plan.arm == i % kArms);
      outcome.exit_arm = outcome.plan.arm;
      outcome.route = Route::kExit;
      outcome.answer_confidence = 0.9f;
      outcome.confidence = confidence;
      (*policy)->observe(outcome);
    }
  }
}

TEST_CASE("normal quantiles") {
  // Values of any table.
  CHECK(normal_quantile(0.5) == doctest::Approx(0.0));
  CHECK(normal_quantile(0.975) == doctest::Approx(1.959963985));
  CHECK(normal_quantile(0.025) == doctest::Approx(-1.959963985));
  CHECK(normal_quantile(0.9999) == doctest::Approx(3.719016485));
  CHECK(normal_quantile(0.02) == doctest::Approx(-2.053748911));
}

TEST_CASE("kl bounds") {
  CHECK(kl_upper_bound(0.0, 1.0, std::log(2.0)) == doctest::Approx(0.5));  // -ln(1 - q) = ln 2
  CHECK(kl_upper_bound(0.3, 5.0, 0.0) == doctest::Approx(0.3));
  CHECK(kl_upper_bound(1.0, 5.0, 2.0) == doctest::Approx(1.0));
}

// Arms and costs, one after the other.
std::vector<double> decisions(const std::string& policy, const CostModel& costs) {
  ReplayOptions options;
  options.policy = policy;
  options.policy_options = options_for(kArms);
  options.policy_options.costs = costs;
  options.order = Order::kFile;
  std::vector<double> all;
  options.on_decision = [&](const Decision& decision) {
    all.push_back(static_cast<double>(decision.arm));
    all.push_back(decision.cost);
  };
  const Result<ReplayResult> result = replay(noisy_trace(600), options);
  REQUIRE(result.ok());
  all.insert(all.end(), result->mean_reward.begin(), result->mean_reward.end());
  return all;
}

TEST_CASE("what offloads cost by layer counts alone where it is known") {
  for (const std::string_view name : policy_names()) {
    CAPTURE(std::string(name));
    CostModel one, by_layer;
    one.offload = 0.3;
    by_layer.offload = 50.0;
    by_layer.offload_by_layer.assign(kArms + 1, one.offload);
    CHECK(decisions(std::string(name), one) == decisions(std::string(name), by_layer));
  }
}

TEST_CASE("costs beside which a confidence is nothing leave every number finite") {
  PolicyOptions options = options_for(1);
  options.costs = {.lambda1 = 1e30, .offload = 0.0, .mu = 1e30};
  for (const std::string_view name : policy_names()) {
    CAPTURE(std::string(name));
    const auto policy = make_policy(name, options);
    REQUIRE(policy.ok());
    for (int i = 0; i < 5; ++i) {
      const Plan plan = (*policy)->plan(LinkState::kNone);
      const float confidence = 0.9f;
      Outcome outcome;
      outcome.plan = plan;
      outcome.confidence = {&confidence, 1};
      outcome.answer_confidence = confidence;
      outcome.cost = 1e30;
      (*policy)->observe(outcome);
    }
    CHECK((*policy)->load_state((*policy)->save_state()).ok());
  }
}

}  // namespace
}  // namespace splitee::policy
