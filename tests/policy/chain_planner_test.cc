// The search for a chain on rows of few confidences: no threshold parts rows that are equally sure.
#include "policy/learners/chain_planner.h"

#include <limits>

#include <doctest/doctest.h>

#include "tests/policy/planted.h"

namespace splitee::policy {
namespace {

// Least price of one look at exit 0 of two, over all thresholds there are.
double least_price(const ChainPlanner& planner, const AuditRows& rows,
                   const DisagreementModel& model, double beta) {
  double least = std::numeric_limits<double>::infinity();
  Chain chain = planner.deepest();
  const auto look = [&] {
    const ChainScore score = planner.score(rows, &model, chain);
    least = std::min(least, score.mean_cost() + beta * score.disagreement());
  };
  look();
  chain.first = 0;
  for (float threshold = 0.0f; threshold <= 1.25f; threshold += 0.125f) {
    chain.looks[0] = {threshold, 1};
    look();
  }
  return least;
}

TEST_CASE("rows of one confidence are answered together or not at all") {
  Rng rng(kTestSeed);
  for (int round = 0; round < 300; ++round) {
    AuditRows rows(2);
    const std::size_t count = 30 + rng.below(100);
    for (std::size_t i = 0; i < count; ++i) {
      const float sure = 0.25f * static_cast<float>(1 + rng.below(4));
      // Those that came first agree: by chance, or since the stream has changed.
      const bool differs = i > count / 2 && rng.below(2) == 0;
      rows.add(std::vector<float>{differs ? -sure : sure, 0.9f}, 0, 1.0f);
    }
    const PolicyOptions options = options_for(2);
    ChainPlanner planner(options.layer_of);
    planner.set_prices({.lambda1 = 0.8, .lambda2 = 0.2}, false);
    DisagreementModel model(2);
    model.fit(rows, 4);
    planner.set_disagreement(rows, model);
    const double beta = 1.0 + 8.0 * rng.uniform();
    Chain chain = planner.deepest();
    planner.propose(rows, beta, {}, chain);
    const ChainScore score = planner.score(rows, &model, chain);
    const double least = least_price(planner, rows, model, beta);
    REQUIRE(score.mean_cost() + beta * score.disagreement() <= least + 1e-4);
  }
}

}  // namespace
}  // namespace splitee::policy
