// The factored learner: regret against SplitEE's, no bias, changing costs and links.
#include "policy/learners/factored.h"

#include <string>

#include <doctest/doctest.h>

#include "policy/episode.h"
#include "policy/replay/replay.h"
#include "tests/policy/planted.h"

namespace splitee::policy {
namespace {

double regret_at(const Trace& trace, const ReplayOptions& options, std::size_t t) {
  const auto result = replay(trace, options);
  REQUIRE(result.ok());
  for (const RegretPoint& point : result->regret) {
    if (point.t == t) return point.regret.mean;
  }
  FAIL("no such point");
  return 0;
}

TEST_CASE("on network-like streams it loses far less than SplitEE and SplitEE-S") {
  struct Setting {
    double alpha, offload, margin;
  };
  for (const Setting& setting :
       {Setting{0.7, 0.5, 1.0}, {0.7, 0.2, 1.0}, {0.85, 0.5, 1.0}, {0.75, 0.5, 1.5}}) {
    const Trace trace = network_like_trace(5000, setting.margin);
    ReplayOptions options;
    options.policy_options.alpha = setting.alpha;
    options.policy_options.costs.offload = setting.offload;
    options.runs = 20;
    options.seed = kTestSeed;
    double regret[4];
    const std::string names[] = {"splitee", "splitee-s", "splitee-s-known", "factored"};
    for (std::size_t i = 0; i < 4; ++i) {
      options.policy = names[i];
      regret[i] = regret_at(trace, options, 2000);
    }
    MESSAGE("alpha " << setting.alpha << ", o " << setting.offload << ", margin " << setting.margin
                     << ": regret at 2000: splitee " << regret[0] << ", splitee-s " << regret[1]
                     << ", splitee-s-known " << regret[2] << ", factored " << regret[3]);
    CHECK(regret[3] < regret[1] / 3.0);
    CHECK(regret[3] < regret[0] / 6.0);
  }
}

// A trace row as a network; the link may lose offloads.
struct RowNetwork {
  const double* confidence;
  std::size_t exits;
  bool lost = false;
  ExitReading evaluate(std::size_t arm) const {
    return {.confidence = static_cast<float>(confidence[arm]),
            .prediction = 0,
            .classes = 2,
            .probabilities = {}};
  }
  std::optional<float> offload(std::size_t) const {
    if (lost) return std::nullopt;
    return static_cast<float>(confidence[exits - 1]);
  }
};

struct Driver {
  const Trace& trace;
  Policy& policy;
  PolicyOptions options;
  EpisodeRunner session;
  std::size_t next = 0;

  Driver(const Trace& t, Policy& p, const PolicyOptions& o)
      : trace(t), policy(p), options(o), session(p, o) {}

  // How often each arm is played in the next `samples` samples.
  std::vector<std::size_t> play(std::size_t samples, LinkState link, bool lost = false) {
    std::vector<std::size_t> plays(trace.exits);
    for (std::size_t i = 0; i < samples; ++i) {
      const double* row = &trace.confidence[trace.exits * (next++ % trace.samples())];
      ++plays[session.run(link, RowNetwork{row, trace.exits, lost}).plan.arm];
    }
    return plays;
  }
};

std::size_t most_played(const std::vector<std::size_t>& plays) {
  return static_cast<std::size_t>(std::ranges::max_element(plays) - plays.begin());
}

// Exit 1 is never sure, exit 4 nearly always: a cheap link favours offloading from layer 1, a dear
// one exit 4.
TEST_CASE("a change of costs needs no new learning, where SplitEE stays behind") {
  const Trace trace = planted_trace({0.02, 0.1, 0.2, 0.97, 0.98, 1.0}, 20'000);
  PolicyOptions options = options_for(6);
  options.costs.offload = 0.1;
  CostModel dear = options.costs;
  dear.offload = 0.9;
  std::size_t on_best[2];
  for (const std::size_t i : {0u, 1u}) {
    const auto policy = make_policy(i == 0 ? "factored" : "splitee", options);
    REQUIRE(policy.ok());
    Driver driver(trace, **policy, options);
    const std::vector<std::size_t> before = driver.play(5000, LinkState::kUp);
    CHECK(most_played(before) == 0);
    REQUIRE((*policy)->set_costs(dear).ok());
    driver.session.set_costs(dear);
    on_best[i] = driver.play(200, LinkState::kUp)[3];
  }
  MESSAGE("of 200 samples after the change on the new best arm: factored "
          << on_best[0] << ", splitee " << on_best[1]);
  CHECK(on_best[0] > 150);
  CHECK(on_best[1] < 50);
}

TEST_CASE("the link's state is part of the reward, not of what is learned") {
  const Trace trace = planted_trace({0.02, 0.1, 0.2, 0.97, 0.98, 1.0}, 20'000);
  PolicyOptions options = options_for(6);
  options.costs.offload = 0.1;
  const auto policy = make_policy("factored", options);
  REQUIRE(policy.ok());
  Driver driver(trace, **policy, options);
  CHECK(most_played(driver.play(3000, LinkState::kUp)) == 0);
  CHECK(driver.play(100, LinkState::kNone)[3] > 70);  // without a server, exit 4 is the cheapest
  CHECK(driver.play(100, LinkState::kDown)[3] > 70);
  CHECK(driver.play(100, LinkState::kUp)[0] > 70);
}

TEST_CASE("a link that loses what is sent is left alone") {
  const Trace trace = planted_trace({0.02, 0.1, 0.2, 0.97, 0.98, 1.0}, 20'000);
  PolicyOptions options = options_for(6);
  options.costs.offload = 0.1;
  for (const std::string name : {"factored", "factored-alpha"}) {
    CAPTURE(name);
    const auto policy = make_policy(name, options);
    REQUIRE(policy.ok());
    Driver driver(trace, **policy, options);
    (void)driver.play(1000, LinkState::kUp, true);
    CHECK(driver.play(500, LinkState::kUp, true)[3] > 400);
  }
}

TEST_CASE("samples that exited higher up do not bias it") {
  const Trace trace = selection_trace(20'000);
  ReplayOptions options;
  options.policy = "factored";
  options.policy_options = options_for(3);
  options.policy_options.costs.offload = 0.3;
  options.runs = 4;
  options.seed = kTestSeed;
  CHECK(regret_at(trace, options, 20'000) < 20.0);
}

}  // namespace
}  // namespace splitee::policy
