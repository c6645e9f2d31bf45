// One sample through every route: what is run, what it costs, what the policy may learn.
#include "policy/session.h"

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
  Link link;
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
  Session session(**policy, options);
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
      {"fixed", 2, Link::kUp, true, kExit, 2, 5, 1, 0, 0.85f},
      {"fixed", 1, Link::kUp, true, kOffload, 3, 3, 1, 1, 0.97f},
      {"fixed", 1, Link::kUp, false, kFallback, 3, 6, 2, 1, 0.95f},
      {"fixed", 1, Link::kNone, true, kFinal, 3, 6, 2, 0, 0.95f},
      {"fixed", 1, Link::kDown, true, kFinal, 3, 6, 2, 0, 0.95f},
      {"fixed", 2, Link::kNone, true, kExit, 2, 5, 1, 0, 0.85f},
      {"fixed", 3, Link::kUp, true, kFinal, 3, 6, 1, 0, 0.95f},
      {"final", 0, Link::kUp, true, kFinal, 3, 6, 1, 0, 0.95f},
      {"offload", 0, Link::kUp, true, kOffload, 3, 0, 0, 1, 0.97f},
      {"offload", 0, Link::kUp, false, kFallback, 3, 6, 1, 1, 0.95f},
      {"offload", 0, Link::kNone, true, kFinal, 3, 6, 1, 0, 0.95f},
      {"offload", 0, Link::kDown, true, kFinal, 3, 6, 1, 0, 0.95f},
      {"threshold", 0, Link::kUp, true, kExit, 2, 5, 3, 0, 0.85f},
      {"splitee", 0, Link::kUp, true, kOffload, 3, 2, 1, 1, 0.97f},
      {"splitee-s", 0, Link::kUp, false, kFallback, 3, 6, 2, 1, 0.95f},
  };
  for (const RouteCase& c : cases) check_route(c);
}

TEST_CASE("every exit up to the split is evaluated and paid for in splitee-s") {
  PolicyOptions options = options_for(4);
  options.costs = {.lambda1 = kLambda1, .lambda2 = kLambda2, .offload = kOffload};
  const auto policy = make_policy("splitee-s", options);
  REQUIRE(policy.ok());
  Session session(**policy, options);
  for (std::size_t arm = 0; arm < 4; ++arm) {  // the first pulls: arm 0, 1, 2, 3
    FakeNetwork network{{0.9f, 0.7f, 0.7f, 0.95f}, true, {}, {}};
    const Outcome& outcome = session.run(Link::kUp, network);
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
  Session session(**policy, options);
  std::size_t shorter = 0, previous = 0;
  for (int i = 0; i < 50; ++i) {
    FakeNetwork network{{0.9f, 0.1f, 0.1f}, true, {}, {}};
    const Outcome& outcome = session.run(Link::kUp, network);
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

}  // namespace
}  // namespace splitee::policy
