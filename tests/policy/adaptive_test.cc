// The learner for measured costs: regret against factored's, dear offloads, the input sent at once,
// costs that change.
#include "policy/learners/adaptive.h"

#include <cstring>
#include <limits>
#include <string>

#include <doctest/doctest.h>

#include "policy/episode.h"
#include "policy/replay/replay.h"
#include "policy/state.h"
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

// A trace row as a network.
struct RowNetwork {
  const double* confidence;
  std::size_t exits;
  bool link_works;
  ExitReading evaluate(std::size_t arm) const {
    return {.confidence = static_cast<float>(confidence[arm]),
            .prediction = 0,
            .classes = 2,
            .probabilities = {}};
  }
  std::optional<float> offload(std::size_t) const {
    if (!link_works) return std::nullopt;
    return static_cast<float>(confidence[exits - 1]);
  }
};

struct Driver {
  const Trace& trace;
  bool link_works = true;
  PolicyOptions options;
  std::unique_ptr<Policy> policy;
  std::unique_ptr<EpisodeRunner> session;
  std::size_t next = 0;
  std::size_t looks = 0;  // samples whose exits on the way were read too
  std::size_t sends = 0;

  Driver(const Trace& t, const PolicyOptions& o) : trace(t), options(o) {
    auto made = make_policy("adaptive", options);
    REQUIRE(made.ok());
    policy = std::move(*made);
    session = std::make_unique<EpisodeRunner>(*policy, options);
  }
  void price(const CostModel& costs) {
    REQUIRE(policy->set_costs(costs).ok());
    session->set_costs(costs);
  }
  // How often each split is chosen in the next `samples` samples; [0]: at once.
  std::vector<std::size_t> play(std::size_t samples, LinkState link = LinkState::kUp) {
    std::vector<std::size_t> plays(trace.exits + 1);
    for (std::size_t i = 0; i < samples; ++i) {
      const double* row = &trace.confidence[trace.exits * (next++ % trace.samples())];
      const Outcome& outcome = session->run(link, RowNetwork{row, trace.exits, link_works});
      const std::size_t arm = outcome.plan.arm;
      looks += outcome.plan.every_exit ? 1 : 0;
      sends += outcome.route == Route::kOffload || outcome.route == Route::kFallback ? 1 : 0;
      ++plays[arm == kOffloadAtOnce ? 0 : arm + 1];
    }
    return plays;
  }
};

// A link that costs `input` at once and `activation` from every split.
CostModel measured(double input, double activation) {
  CostModel costs;
  costs.offload = activation;
  costs.offload_by_layer.assign(13, activation);
  costs.offload_by_layer[0] = input;
  return costs;
}

}  // namespace

TEST_CASE("adaptive loses no more than factored, and far less where offloads are dear") {
  struct Setting {
    double alpha, offload, margin;
  };
  for (const Setting& setting : {Setting{0.7, 0.5, 1.0},
                                 {0.7, 0.2, 1.0},
                                 {0.85, 0.5, 1.0},
                                 {0.75, 0.5, 1.5},
                                 {0.75, 2.0, 1.5},
                                 {0.75, 5.0, 1.5}}) {
    const Trace trace = network_like_trace(5000, setting.margin);
    ReplayOptions options;
    options.policy_options.alpha = setting.alpha;
    options.policy_options.costs.offload = setting.offload;
    options.runs = 20;
    options.seed = kTestSeed;
    options.policy = "factored";
    const double factored = regret_at(trace, options, 2000);
    options.policy = "adaptive";
    const double adaptive = regret_at(trace, options, 2000);
    MESSAGE("alpha " << setting.alpha << ", o " << setting.offload << ", margin " << setting.margin
                     << ": regret at 2000: factored " << factored << ", adaptive " << adaptive);
    CHECK(adaptive < 1.25 * factored + 6.0);  // at o = 0.2 two arms are 0.01 apart
    if (setting.offload >= 2.0) CHECK(adaptive < 0.75 * factored);
  }
}

TEST_CASE("the input is sent at once where that is cheapest, and only where it may be") {
  const Trace trace = network_like_trace(5000, 1.0);
  PolicyOptions options = options_for(12);
  options.at_once_arm = true;
  options.costs = measured(0.05, 0.3);
  Driver driver(trace, options);
  (void)driver.play(300);
  CHECK(driver.play(1000)[0] > 950);
  CHECK(driver.play(100, LinkState::kDown)[0] == 0);
  CHECK(driver.play(100, LinkState::kNone)[0] == 0);
  options.at_once_arm = false;
  Driver never(trace, options);
  CHECK(never.play(1000)[0] == 0);
}

TEST_CASE("when the link changes, so does the arm, at once") {
  const Trace trace = network_like_trace(5000, 1.5);
  PolicyOptions options = options_for(12);
  options.alpha = 0.75;
  options.at_once_arm = true;
  options.costs = measured(0.3, 0.3);
  Driver driver(trace, options);
  (void)driver.play(2000);
  const std::vector<std::size_t> before = driver.play(200);
  driver.price(measured(0.02, 0.02));
  CHECK(driver.play(200)[0] > 190);
  driver.price(measured(6.0, 6.0));
  const std::vector<std::size_t> dear = driver.play(400);
  CHECK(dear[0] + dear[1] == 0);
  driver.price(measured(0.3, 0.3));
  const std::vector<std::size_t> after = driver.play(200);
  CHECK(std::ranges::max_element(after) - after.begin() ==
        std::ranges::max_element(before) - before.begin());
}

TEST_CASE("an unsure sample is sent only where the layers left cost more") {
  const Trace trace = network_like_trace(1000, 1.0);
  PolicyOptions options = options_for(12);
  options.alpha = 0.9;
  options.costs.offload = 0.47;
  Driver driver(trace, options);
  const auto sends_from = [&](std::size_t arm) {
    const Plan plan{.arm = arm, .link = LinkState::kUp};
    ExitReading unsure;
    unsure.confidence = 0.6f;
    return driver.policy->decide(plan, arm, unsure) == Action::kOffload;
  };
  for (std::size_t arm = 0; arm < 11; ++arm) CHECK(sends_from(arm) == (arm < 7));  // 5 or 4 left
  // Where half of what is sent is lost, and finished here all the same, an offload costs double.
  driver.price(measured(0.0, 0.0));
  driver.link_works = false;
  const auto play_until_sent = [&](std::size_t sends) {
    for (int i = 0; driver.sends < sends; ++i) {
      REQUIRE(i < 10'000);
      (void)driver.play(1);
    }
  };
  play_until_sent(200);
  driver.link_works = true;
  play_until_sent(400);
  driver.price(measured(0.47, 0.47));
  for (std::size_t arm = 0; arm < 11; ++arm) CHECK(sends_from(arm) == (arm < 2));  // 10 or 9 left
}

TEST_CASE("a link too dear to use costs no more than none") {
  const Trace trace = network_like_trace(5000, 1.0);
  PolicyOptions options = options_for(12);
  options.at_once_arm = true;
  options.costs = measured(6.0, 6.0);
  Driver dear(trace, options), none(trace, options);
  CHECK(dear.play(2000) == none.play(2000, LinkState::kNone));
  CHECK(dear.sends == 0);
}

TEST_CASE("exits on the way are read at first, then now and then, or where they cost nothing") {
  const Trace trace = network_like_trace(5000, 1.0);
  PolicyOptions options = options_for(12);
  options.alpha = 1.0;  // no exit but the last is ever sure: all layers, and no other exit
  options.costs = {.lambda1 = 0.05, .lambda2 = 0.05, .offload = 6.0};
  Driver driver(trace, options);
  (void)driver.play(600);
  CHECK(driver.looks >= 300);
  driver.looks = 0;
  CHECK(driver.play(800)[12] > 750);
  CHECK(driver.looks >= 100);
  CHECK(driver.looks < 150);
  driver.price({.lambda1 = 0.1, .lambda2 = 0.0, .offload = 6.0});
  driver.looks = 0;
  (void)driver.play(100);
  CHECK(driver.looks == 100);
}

// Numbers of a saved state, from the first arm's n on.
std::vector<double> learned(const Policy& policy, const PolicyOptions& options) {
  const std::string state = policy.save_state();
  PolicyOptions named = options;
  named.costs = {};  // as state.h says of policies that learn nothing of costs
  std::vector<double> numbers;
  for (std::size_t at = state_header(policy.name(), named).size() + 8; at + 8 < state.size();
       at += 8) {
    double number = 0;
    std::memcpy(&number, &state[at], 8);
    numbers.push_back(number);
  }
  return numbers;
}

TEST_CASE("what is kept of a sample, with and without the exits on the way") {
  PolicyOptions options = options_for(3);  // alpha 0.8
  const auto policy = make_policy("adaptive", options);
  REQUIRE(policy.ok());
  const auto learn = [&](bool every_exit, const std::vector<float>& confidence) {
    Outcome outcome;
    outcome.plan = (*policy)->plan(LinkState::kUp);
    outcome.plan.arm = 2;
    outcome.plan.every_exit = every_exit;
    outcome.route = Route::kFinal;
    outcome.exit_arm = 2;
    outcome.answer_confidence = confidence[2];
    outcome.confidence = confidence;
    (*policy)->observe(outcome);
  };
  const float none = std::numeric_limits<float>::quiet_NaN();
  learn(true, {0.875f, 0.5f, 0.75f});  // sure, unsure, the last
  learn(false, {none, none, 0.625f});  // the last alone
  // n, differences, disagreements; number, sum, squares of sure ones; the same of C_L if unsure.
  const double arms[] = {1, 1,     1,
                         1, 0.875, 0.875 * 0.875,
                         0, 0,     0,  //
                         1, -1,    1,
                         0, 0,     0,
                         1, 0.75,  0.75 * 0.75,  //
                         1, 0,     0,
                         0, 0,     0,
                         0, 0,     0};
  const std::vector<double> numbers = learned(**policy, options);
  REQUIRE(numbers.size() == 27 + 6 + 3);
  for (std::size_t i = 0; i < 27; ++i) {
    CAPTURE(i);
    CHECK(numbers[i] == arms[i]);
  }
  CHECK(numbers[30] == 2.0);  // C_L of any sample: number, sum
  CHECK(numbers[31] == 0.75 + 0.625);
}

TEST_CASE("samples that exited higher up do not bias adaptive") {
  const Trace trace = selection_trace(20'000);
  ReplayOptions options;
  options.policy = "adaptive";
  options.policy_options = options_for(3);
  options.policy_options.costs.offload = 0.3;
  options.runs = 4;
  options.seed = kTestSeed;
  CHECK(regret_at(trace, options, 20'000) < 20.0);
}

}  // namespace splitee::policy
