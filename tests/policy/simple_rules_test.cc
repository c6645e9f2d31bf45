// Simple rules in hindsight against the rules themselves, sample by sample.
#include "policy/replay/simple_rules.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "tests/policy/planted.h"

namespace splitee::policy {
namespace {

struct Point {
  double disagreement = 0, cost = 0;
};

// What a rule comes to, worked out as it reads.
Point walk(const SimpleRule& rule, const Trace& trace, const PolicyOptions& options) {
  Point sum;
  const std::size_t last = trace.exits - 1;
  const CostModel& costs = options.costs;
  for (std::size_t s = 0; s < trace.samples(); ++s) {
    const ClassNumber* const row = &trace.prediction[s * trace.exits];
    const auto sure = [&](std::size_t exit) {
      return static_cast<float>(trace.confidence[s * trace.exits + exit]) >= rule.threshold;
    };
    std::size_t answered = rule.name == "offload" ? last : rule.exit;
    double cost = costs.cost(options.layer_of[answered], 1, false);
    if (rule.name == "offload") cost = costs.offload_from(0);
    if (rule.name == "threshold") {
      while (answered < last && !sure(answered)) ++answered;
      cost = costs.cost(options.layer_of[answered], answered - rule.exit + 1, false);
    } else if ((rule.name == "look" || rule.name == "split") && !sure(rule.exit)) {
      answered = last;
      cost = rule.name == "look" ? costs.cost(options.layer_of[last], 2, false)
                                 : costs.cost(options.layer_of[rule.exit], 1, false) +
                                       costs.offload_from(options.layer_of[rule.exit]);
    }
    sum.disagreement += row[answered] != row[last] ? 1.0 : 0.0;
    sum.cost += cost / costs.lambda();
  }
  const auto count = static_cast<double>(trace.samples());
  return {sum.disagreement / count, sum.cost / count};
}

TEST_CASE("every rule costs and differs as it says") {
  const Trace trace = network_like_trace(300, 1.0);
  PolicyOptions options = options_for(trace.exits);
  options.costs = {.lambda1 = 0.8, .lambda2 = 0.2, .offload = 3.0};
  const std::vector<SimpleRule> rules = simple_rules(trace, options, true);
  CHECK(rules.size() > 100 * trace.exits);
  for (const SimpleRule& rule : rules) {
    CAPTURE(rule.name);
    CAPTURE(to_text(rule, options.layer_of));
    const Point point = walk(rule, trace, options);
    CHECK(rule.disagreement == doctest::Approx(point.disagreement));
    CHECK(rule.cost == doctest::Approx(point.cost));
  }
  for (const SimpleRule& rule : simple_rules(trace, options, false)) {
    CHECK(rule.name != "offload");
    CHECK(rule.name != "split");
  }
}

TEST_CASE("the hull is convex and under every rule; the cheapest differs no more than it may") {
  const Trace trace = network_like_trace(2000, 1.0);
  PolicyOptions options = options_for(trace.exits);
  const std::vector<SimpleRule> rules = simple_rules(trace, options, false);
  const std::vector<SimpleRule> hull = lower_hull(rules);
  REQUIRE(hull.size() >= 3);
  double slope = -1e300;
  for (std::size_t i = 1; i < hull.size(); ++i) {
    const double next =
        (hull[i].cost - hull[i - 1].cost) / (hull[i].disagreement - hull[i - 1].disagreement);
    CHECK(next > slope);
    CHECK(next < 0.0);
    slope = next;
  }
  for (const double limit : {0.0, 0.01, 0.05, 1.0}) {
    const SimpleRule& best = cheapest(rules, limit);
    CHECK(best.disagreement <= limit);
    for (const SimpleRule& rule : rules) {
      CHECK((rule.disagreement > limit || rule.cost >= best.cost));
    }
  }
}

}  // namespace
}  // namespace splitee::policy
