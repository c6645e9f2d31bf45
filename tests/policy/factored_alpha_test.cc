// The factored learner with its own thresholds: what it exits at, what that gains, and no bias.
#include "policy/learners/factored_alpha.h"

#include <string>

#include <doctest/doctest.h>

#include "policy/episode.h"
#include "policy/replay/replay.h"
#include "tests/policy/planted.h"

namespace splitee::policy {
namespace {

// Two exits: the first one's confidence is uniform from .5 to 1, the last one's is as planted.
struct PlantedAnswer {
  double (*answer)(double own);
};

struct Network {
  float own, last;
  ExitReading evaluate(std::size_t arm) const {
    return {
        .confidence = arm == 0 ? own : last, .prediction = 0, .classes = 2, .probabilities = {}};
  }
  std::optional<float> offload(std::size_t) const { return last; }
};

// Lowest confidence from which nine in ten samples exit at the first split, after learning.
double learned_threshold(const PlantedAnswer& planted, double offload, std::vector<double> floors) {
  PolicyOptions options = options_for(2);
  options.alpha = 0.6;
  options.exit_alphas = std::move(floors);
  options.costs.offload = offload;
  options.costs.lambda1 = 0.4;  // a second layer never pays
  const auto policy = make_policy("factored-alpha", options);
  REQUIRE(policy.ok());
  EpisodeRunner session(**policy, options);
  Rng rng(kTestSeed);
  std::vector<int> exits(51), seen(51);
  for (int i = 0; i < 40'000; ++i) {
    const double own = 0.5 + 0.5 * rng.uniform();
    const double last = std::min(1.0, planted.answer(own) + 0.1 * (rng.uniform() - 0.5));
    const Outcome& outcome =
        session.run(LinkState::kUp, Network{static_cast<float>(own), static_cast<float>(last)});
    if (i < 20'000 || outcome.plan.arm != 0) continue;
    const auto bin = static_cast<std::size_t>((own - 0.5) * 100);
    ++seen[bin];
    exits[bin] += outcome.route == Route::kExit ? 1 : 0;
  }
  for (std::size_t bin = 50; bin-- > 0;) {
    REQUIRE(seen[bin] > 50);
    if (10 * exits[bin] < 9 * seen[bin]) return 0.51 + 0.01 * static_cast<double>(bin);
  }
  return 0.5;
}

TEST_CASE("its threshold is where an offload stops paying, and not below the floor") {
  const PlantedAnswer flat{[](double) { return 0.9; }};
  const PlantedAnswer rising{[](double own) { return 0.55 + 0.4 * own; }};
  // c = 0.9 - 0.1, and c = 0.55 + 0.4 c - 0.1.
  CHECK(learned_threshold(flat, 0.1, {}) == doctest::Approx(0.80).epsilon(0.03));
  CHECK(learned_threshold(rising, 0.1, {}) == doctest::Approx(0.75).epsilon(0.03));
  CHECK(learned_threshold(flat, 0.2, {}) == doctest::Approx(0.70).epsilon(0.03));
  CHECK(learned_threshold(flat, 0.5, {}) == doctest::Approx(0.60));  // alpha is the floor
  CHECK(learned_threshold(flat, 0.5, {0.75, 0.5}) == doctest::Approx(0.75));
  CHECK(learned_threshold(flat, 0.1, {0.95, 0.5}) == doctest::Approx(0.95));
}

double reward_per_sample(const Trace& trace, const std::string& policy, double alpha, double o,
                         double& accuracy) {
  ReplayOptions options;
  options.policy = policy;
  options.policy_options.alpha = alpha;
  options.policy_options.costs.offload = o;
  options.runs = 10;
  options.seed = kTestSeed;
  double reward = 0;
  options.on_decision = [&](const Decision& decision) { reward += decision.reward; };
  const auto result = replay(trace, options);
  REQUIRE(result.ok());
  accuracy = result->accuracy->mean;
  return reward / static_cast<double>(10 * trace.samples());
}

TEST_CASE("with a cheap link it earns more than one threshold, and is no less accurate") {
  const Trace trace = network_like_trace(5000, 1.0);
  for (const double o : {0.05, 0.1, 0.5}) {
    double accuracy = 0, own_accuracy = 0;
    const double one = reward_per_sample(trace, "factored", 0.7, o, accuracy);
    const double own = reward_per_sample(trace, "factored-alpha", 0.7, o, own_accuracy);
    MESSAGE("o " << o << ": reward " << one << " with one alpha, " << own
                 << " with its own; accuracy " << accuracy << ", " << own_accuracy);
    CHECK(own > one - 0.005);
    if (o < 0.2) {
      CHECK(own > one + 0.003);
      CHECK(own_accuracy > accuracy - 0.002);
    }
  }
}

TEST_CASE("samples that exited higher up do not bias it either") {
  const Trace trace = selection_trace(20'000);
  ReplayOptions options;
  options.policy = "factored-alpha";
  options.policy_options = options_for(3);
  options.policy_options.costs.offload = 0.3;
  options.runs = 4;
  options.seed = kTestSeed;
  const auto result = replay(trace, options);
  REQUIRE(result.ok());
  CHECK(result->best_arm == 1);
  CHECK(result->regret.back().regret.mean < 20.0);
}

TEST_CASE("samples that exited higher up do not bias it") {
  // Exit 1 says 0.65 of all samples, the last exit 0.86 on average, but 0.65 of those that are hard
  // for exit 2 too: the samples split there reveal these alone.
  PolicyOptions options = options_for(3);
  options.alpha = 0.6;
  options.costs = {.lambda1 = 0.01, .lambda2 = 0.0, .offload = 0.1};
  const auto policy = make_policy("factored-alpha", options);
  REQUIRE(policy.ok());
  const auto learn = [&](std::size_t split, std::vector<float> confidence, float answer) {
    Outcome outcome;
    outcome.plan = (*policy)->plan(LinkState::kUp);
    outcome.plan.arm = split;
    outcome.route = Route::kOffload;
    outcome.exit_arm = 2;
    outcome.answer_confidence = answer;
    outcome.confidence = confidence;
    (*policy)->observe(outcome);
  };
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
  for (int i = 0; i < 1000; ++i) learn(1, {0.65f, 0.55f, kNone}, 0.65f);
  for (int i = 0; i < 30; ++i) learn(0, {0.65f, kNone, kNone}, 0.86f);
  CHECK((*policy)->rejected() == 0);
  ExitReading reading;
  reading.confidence = 0.65f;
  const Plan plan{.arm = 0, .every_exit = true, .link = LinkState::kUp};
  CHECK((*policy)->decide(plan, 0, reading) == Action::kOffload);
}

}  // namespace
}  // namespace splitee::policy
