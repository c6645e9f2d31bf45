// One sample through every route: what is run, what it costs, what the policy may learn.
#include "policy/episode.h"

#include <cmath>
#include <string>

#include <doctest/doctest.h>

#include "tests/policy/planted.h"

namespace splitee::policy {
namespace {

// Exit i says confidence[i]; remembers what was asked of it.
struct FakeNetwork {
  std::vector<float> confidence;
  bool link_works = true;
  std::vector<std::size_t> evaluated;
  std::vector<std::size_t> offloaded;

  ExitReading evaluate(std::size_t arm) {
    evaluated.push_back(arm);
    return {.confidence = confidence[arm], .prediction = 0, .classes = 2, .probabilities = {}};
  }
  std::optional<float> offload(std::size_t arm) {
    offloaded.push_back(arm);
    if (!link_works) return std::nullopt;
    return 0.97f;
  }
};

struct RouteCase {
  std::string policy;
  std::size_t split;
  LinkState link;
  bool link_works;
  Route route;
  std::size_t exit_arm;
  std::size_t layers, exits, sends;  // what is paid for
  float answer;
};

constexpr double kLambda1 = 0.08, kLambda2 = 0.02, kOffload = 0.5;

void check_route(const RouteCase& c) {
  CAPTURE(c.policy);
  CAPTURE(c.split);
  CAPTURE(static_cast<int>(c.link));
  CAPTURE(c.link_works);
  PolicyOptions options = options_for(4);
  options.layer_of = {2, 3, 5, 6};
  options.fixed_arm = c.split;
  options.costs = {.lambda1 = kLambda1, .lambda2 = kLambda2, .offload = kOffload};
  const auto policy = make_policy(c.policy, options);
  REQUIRE(policy.ok());
  EpisodeRunner session(**policy, options);
  FakeNetwork network{{0.6f, 0.7f, 0.85f, 0.95f}, c.link_works, {}, {}};
  const Outcome& outcome = session.run(c.link, network);
  CHECK(std::string(route_name(outcome.route)) == std::string(route_name(c.route)));
  CHECK(outcome.exit_arm == c.exit_arm);
  CHECK(outcome.answer_confidence == c.answer);
  CHECK(network.evaluated.size() == c.exits);
  CHECK(network.offloaded.size() == c.sends);
  const double paid = kLambda1 * static_cast<double>(c.layers) +
                      kLambda2 * static_cast<double>(c.exits) +
                      kOffload * static_cast<double>(c.sends);
  CHECK(outcome.cost == doctest::Approx(paid));
  CHECK((*policy)->rejected() == 0);
  for (std::size_t arm = 0; arm < 4; ++arm) {
    const bool seen = std::ranges::count(network.evaluated, arm) > 0;
    CHECK(std::isnan(outcome.confidence[arm]) == !seen);
  }
}

TEST_CASE("every route is accounted for as it was run") {
  using enum Route;
  const RouteCase cases[] = {
      // policy, split, link, works, route, exit, layers, exits, sends, answer
      {"fixed", 2, LinkState::kUp, true, kExit, 2, 5, 1, 0, 0.85f},
      {"fixed", 1, LinkState::kUp, true, kOffload, 3, 3, 1, 1, 0.97f},
      {"fixed", 1, LinkState::kUp, false, kFallback, 3, 6, 2, 1, 0.95f},
      {"fixed", 1, LinkState::kNone, true, kFinal, 3, 6, 2, 0, 0.95f},
      {"fixed", 1, LinkState::kDown, true, kFinal, 3, 6, 2, 0, 0.95f},
      {"fixed", 2, LinkState::kNone, true, kExit, 2, 5, 1, 0, 0.85f},
      {"fixed", 3, LinkState::kUp, true, kFinal, 3, 6, 1, 0, 0.95f},
      {"final", 0, LinkState::kUp, true, kFinal, 3, 6, 1, 0, 0.95f},
      {"offload", 0, LinkState::kUp, true, kOffload, 3, 0, 0, 1, 0.97f},
      {"offload", 0, LinkState::kUp, false, kFallback, 3, 6, 1, 1, 0.95f},
      {"offload", 0, LinkState::kNone, true, kFinal, 3, 6, 1, 0, 0.95f},
      {"offload", 0, LinkState::kDown, true, kFinal, 3, 6, 1, 0, 0.95f},
      {"threshold", 0, LinkState::kUp, true, kExit, 2, 5, 3, 0, 0.85f},
      {"splitee", 0, LinkState::kUp, true, kOffload, 3, 2, 1, 1, 0.97f},
      {"splitee-s", 0, LinkState::kUp, false, kFallback, 3, 6, 2, 1, 0.95f},
  };
  for (const RouteCase& c : cases) check_route(c);
}

TEST_CASE("every exit up to the split is evaluated and paid for in splitee-s") {
  PolicyOptions options = options_for(4);
  options.costs = {.lambda1 = kLambda1, .lambda2 = kLambda2, .offload = kOffload};
  const auto policy = make_policy("splitee-s", options);
  REQUIRE(policy.ok());
  EpisodeRunner session(**policy, options);
  for (std::size_t arm = 0; arm < 4; ++arm) {  // the first pulls: arm 0, 1, 2, 3
    FakeNetwork network{{0.9f, 0.7f, 0.7f, 0.95f}, true, {}, {}};
    const Outcome& outcome = session.run(LinkState::kUp, network);
    CHECK(outcome.plan.arm == arm);
    CHECK(network.evaluated.size() == arm + 1);
    const auto depth = static_cast<double>(arm + 1);
    const double sent = arm == 1 || arm == 2 ? kOffload : 0.0;
    CHECK(outcome.cost == doctest::Approx(depth * (kLambda1 + kLambda2) + sent));
  }
}

TEST_CASE("a session forgets the last sample's confidences") {
  PolicyOptions options = options_for(3);
  const auto policy = make_policy("splitee-s", options);
  REQUIRE(policy.ok());
  EpisodeRunner session(**policy, options);
  std::size_t shorter = 0, previous = 0;
  for (int i = 0; i < 50; ++i) {
    FakeNetwork network{{0.9f, 0.1f, 0.1f}, true, {}, {}};
    const Outcome& outcome = session.run(LinkState::kUp, network);
    const auto unseen = std::ranges::count_if(outcome.confidence, [](float c) { return c != c; });
    CHECK(outcome.confidence.size() - static_cast<std::size_t>(unseen) == outcome.plan.arm + 1);
    shorter += outcome.plan.arm < previous ? 1 : 0;
    previous = outcome.plan.arm;
  }
  CHECK(shorter > 0);
}

TEST_CASE("reward is confidence less mu times cost") {
  const CostModel costs{.lambda1 = 0.08, .lambda2 = 0.02, .offload = 0.3, .mu = 2.0};
  CHECK(costs.lambda() == doctest::Approx(0.1));
  CHECK(costs.cost(5, 3, true) == doctest::Approx(0.76));
  CHECK(costs.reward(0.9, costs.cost(5, 3, true)) == doctest::Approx(-0.62));
}

// Looks at exit 1, then at exit 3 (of five), and does there what it is told.
class Jumper final : public Policy {
 public:
  Action first, second;
  Outcome seen;
  std::vector<float> confidence;
  std::vector<std::uint32_t> classes;

  Plan plan(LinkState link) override {
    return {.arm = 4, .may_end_early = true, .link = link, .first = 1};
  }
  Action decide(const Plan&, std::size_t arm, const ExitReading&) override {
    if (arm == 4) return Action::kExit;
    return arm == 1 ? first : second;
  }
  void observe(const Outcome& outcome) override {
    seen = outcome;
    confidence.assign(outcome.confidence.begin(), outcome.confidence.end());
    classes.assign(outcome.classes.begin(), outcome.classes.end());
  }
  std::uint64_t rejected() const override { return 0; }
  Status set_costs(const CostModel&) override { return {}; }
  std::string save_state() const override { return {}; }
  Status load_state(std::string_view) override { return {}; }
  std::string_view name() const override { return "jumper"; }
};

struct Told {
  Action first, second;
  Route route;
  std::size_t exit_arm;
  std::vector<std::size_t> evaluated;
  std::size_t would_answer;
};

TEST_CASE("a policy that names the exits has those evaluated and no others") {
  Action audit = Action::run_on_to(3);
  audit.audit = audit.would_answer = true;
  const Told cases[] = {
      {Action::kExit, Action::kExit, Route::kExit, 1, {1}, kNoExit},
      {Action::run_on_to(3), Action::kExit, Route::kExit, 3, {1, 3}, kNoExit},
      {Action::run_on_to(3), Action::run_on_to(4), Route::kFinal, 4, {1, 3, 4}, kNoExit},
      {Action::run_on_to(3), Action::kOffload, Route::kOffload, 4, {1, 3}, kNoExit},
      {audit, Action::run_on_to(4), Route::kAudit, 4, {1, 3, 4}, 1},
  };
  PolicyOptions options = options_for(5);
  options.costs = {.lambda1 = kLambda1, .lambda2 = kLambda2, .offload = kOffload};
  for (const Told& told : cases) {
    Jumper policy;
    policy.first = told.first;
    policy.second = told.second;
    EpisodeRunner session(policy, options);
    FakeNetwork network{{0.6f, 0.7f, 0.8f, 0.9f, 0.95f}, true, {}, {}};
    const Outcome& outcome = session.run(LinkState::kUp, network);
    CHECK(outcome.route == told.route);
    CHECK(outcome.exit_arm == told.exit_arm);
    CHECK(outcome.would_answer == told.would_answer);
    CHECK(network.evaluated == told.evaluated);
    const std::size_t reached = told.evaluated.back();
    const double sent = told.route == Route::kOffload ? kOffload : 0.0;
    CHECK(outcome.cost ==
          doctest::Approx(kLambda1 * static_cast<double>(reached + 1) +
                          kLambda2 * static_cast<double>(told.evaluated.size()) + sent));
    for (std::size_t arm = 0; arm < 5; ++arm) {
      const bool looked = std::ranges::count(told.evaluated, arm) > 0;
      CHECK(std::isnan(policy.confidence[arm]) == !looked);
      CHECK((policy.classes[arm] == kNoClass) == !looked);
    }
  }
}

}  // namespace
}  // namespace splitee::policy
