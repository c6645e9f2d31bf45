// What holds for every policy: options, poison, tickets, determinism, no allocation.
#include "policy/policy.h"

#include <cmath>
#include <string>

#include <doctest/doctest.h>

#include "policy/episode.h"
#include "policy/learners/cascade.h"
#include "policy/learners/policy_base.h"
#include "policy/state.h"
#include "tests/policy/allocations.h"
#include "tests/policy/planted.h"

namespace splitee::policy {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct RandomNetwork {
  Rng& rng;
  std::size_t arms;
  ExitReading evaluate(std::size_t) const {
    return {.confidence = static_cast<float>(0.5 + 0.5 * rng.uniform()),
            .prediction = rng.below(3),
            .classes = 3,
            .probabilities = {}};
  }
  std::optional<float> offload(std::size_t) const {
    if (rng.below(10) == 0) return std::nullopt;
    return static_cast<float>(rng.uniform());
  }
};

// The same confidences for every sample.
struct Readings {
  std::vector<float> confidence;
  ExitReading evaluate(std::size_t arm) const {
    return {.confidence = confidence[arm], .prediction = 0, .classes = 2, .probabilities = {}};
  }
  std::optional<float> offload(std::size_t) const { return confidence.back(); }
};

LinkState some_link(Rng& rng) {
  constexpr LinkState kLinks[] = {LinkState::kUp, LinkState::kUp, LinkState::kUp, LinkState::kNone,
                                  LinkState::kDown};
  return kLinks[rng.below(5)];
}

// Arm and route of `samples` samples, as text.
std::string story(Policy& policy, const PolicyOptions& options, std::size_t samples, Rng& rng) {
  EpisodeRunner session(policy, options);
  std::string text;
  for (std::size_t i = 0; i < samples; ++i) {
    const LinkState link = some_link(rng);
    const Outcome& outcome = session.run(link, RandomNetwork{rng, options.arms()});
    text += std::to_string(outcome.plan.arm) + std::string(route_name(outcome.route)) + " ";
  }
  return text;
}

std::unique_ptr<Policy> make(std::string_view name, const PolicyOptions& options) {
  auto policy = make_policy(name, options);
  REQUIRE(policy.ok());
  return std::move(*policy);
}

TEST_CASE("policies are deterministic by seed") {
  const PolicyOptions options = options_for(6);
  for (const std::string_view name : policy_names()) {
    CAPTURE(std::string(name));
    std::string stories[2];
    for (std::string& text : stories) {
      Rng rng(kTestSeed);
      const auto policy = make(name, options);
      CHECK(policy->name() == name);
      text = story(*policy, options, 500, rng);
    }
    CHECK(stories[0] == stories[1]);
  }
}

TEST_CASE("random policies follow their seed") {
  PolicyOptions options = options_for(12);
  std::vector<std::size_t> seen(12);
  for (options.seed = 0; options.seed < 200; ++options.seed) {
    const auto policy = make("random-arm", options);
    const std::size_t arm = policy->plan(LinkState::kUp).arm;
    for (int i = 0; i < 5; ++i) CHECK(policy->plan(LinkState::kUp).arm == arm);
    ++seen[arm];
  }
  for (const std::size_t count : seen) CHECK(count > 4);
  for (const std::string name : {"random", "thompson"}) {
    CAPTURE(name);
    std::string stories[2];
    for (const std::uint64_t seed : {0u, 1u}) {
      options.seed = seed;
      Rng rng(kTestSeed);
      stories[seed] = story(*make(name, options), options, 200, rng);
    }
    CHECK(stories[0] != stories[1]);
  }
  const auto random = make("random", options);
  std::vector<std::size_t> drawn(12);
  for (int i = 0; i < 1200; ++i) ++drawn[random->plan(LinkState::kUp).arm];
  for (const std::size_t count : drawn) CHECK(count > 50);
}

TEST_CASE("nothing is allocated per sample") {
  const PolicyOptions options = options_for(12);
  for (const std::string_view name : policy_names()) {
    CAPTURE(std::string(name));
    const auto policy = make(name, options);
    EpisodeRunner session(*policy, options);
    Rng rng(kTestSeed);
    const std::size_t before = allocations_so_far();
    for (int i = 0; i < 2000; ++i) session.run(some_link(rng), RandomNetwork{rng, 12});
    CHECK(allocations_so_far() == before);
  }
}

TEST_CASE("probabilities that are no numbers never lead to an early exit") {
  PolicyOptions options = options_for(3);
  options.costs.offload = 0.01;  // below that of the layers left
  const std::vector<std::vector<float>> poisons = {
      {kNan, 0.9f}, {0.95f, kNan}, {kInfinity, 0.0f}, {1.5f, -0.5f}, {0.99f, -kInfinity}, {}};
  for (const std::string_view name : policy_names()) {
    CAPTURE(std::string(name));
    const auto policy = make(name, options);
    for (const std::vector<float>& poison : poisons) {
      for (const LinkState link : {LinkState::kUp, LinkState::kNone}) {
        Plan plan = policy->plan(link);
        if (plan.arm == kOffloadAtOnce) continue;
        plan.arm = plan.every_exit && plan.arm == 2 ? 2 : 1;
        for (std::size_t arm = plan.every_exit ? 0 : plan.arm;
             arm <= std::min<std::size_t>(plan.arm, 1); ++arm) {
          const Action action = policy->at_exit(plan, arm, poison);
          const bool at_split = arm == plan.arm && link == LinkState::kUp;
          CHECK(action.kind != Action::kExit);
          if (plan.first == kAsPlanned) {
            CHECK(action.kind == (at_split ? Action::kOffload : Action::kContinue));
          }
        }
      }
    }
  }
}

// A saved state without the count of rejected outcomes and the checksum.
std::string learned_part(const Policy& policy, const PolicyOptions& options) {
  const std::string state = policy.save_state();
  const std::size_t header = state_header(policy.name(), options).size();  // the same for any costs
  return state.substr(header + 8, state.size() - header - 16);
}

TEST_CASE("poisoned outcomes are counted and change nothing") {
  const PolicyOptions options = options_for(4);
  for (const std::string_view name : policy_names()) {
    CAPTURE(std::string(name));
    const auto policy = make(name, options);
    Rng rng(kTestSeed);
    (void)story(*policy, options, 50, rng);
    const std::uint64_t before = policy->rejected();
    std::uint64_t poisoned = 0;
    const auto observe_with = [&](auto&& spoil) {
      std::vector<float> confidence(4, 0.5f);
      Outcome outcome;
      outcome.plan = policy->plan(LinkState::kUp);
      outcome.answer_confidence = 0.9f;
      outcome.exit_arm = 3;
      outcome.route = Route::kOffload;
      outcome.cost = 0.3;
      outcome.confidence = confidence;
      spoil(outcome, confidence);
      const std::string planned = learned_part(*policy, options);
      policy->observe(outcome);
      ++poisoned;
      CHECK(policy->rejected() == before + poisoned);
      CHECK(learned_part(*policy, options) == planned);
    };
    for (const float bad : {kNan, kInfinity, -kInfinity, 1.001f, -0.001f}) {
      observe_with([bad](Outcome& o, auto&) { o.answer_confidence = bad; });
    }
    for (const double bad : {static_cast<double>(kNan), static_cast<double>(kInfinity), -1.0}) {
      observe_with([bad](Outcome& o, auto&) { o.cost = bad; });
    }
    observe_with([](Outcome& o, auto&) { o.confidence = o.confidence.first(2); });
    observe_with([](Outcome& o, auto&) { o.exit_arm = 4; });
    observe_with([](Outcome& o, auto&) { o.plan.ticket += 1; });
    observe_with([](Outcome& o, auto&) { o.plan.ticket = 0; });
    if (name.starts_with("splitee") || name.starts_with("factored")) {
      for (const float bad : {kNan, kInfinity, 1.5f}) {
        observe_with([bad](Outcome& o, std::vector<float>& c) { c[o.plan.arm] = bad; });
      }
      observe_with([](Outcome& o, auto&) { o.plan.arm = 77; });
      observe_with([](Outcome& o, std::vector<float>& c) {  // an exit on the way
        o.plan.arm = 2;
        o.plan.every_exit = true;
        c[1] = kNan;
      });
    }
    // Still sound: the state can be saved and taken back, which refuses what is not finite.
    const auto restored = make(name, options);
    CHECK(restored->load_state(policy->save_state()).ok());
    CHECK(restored->rejected() == policy->rejected());
  }
}

TEST_CASE("an outcome counts once, whenever it comes") {
  const PolicyOptions options = options_for(3);
  const auto policy = make("splitee", options);
  std::vector<float> confidence(3, 0.9f);
  std::vector<Outcome> flying;
  for (int i = 0; i < 3; ++i) {  // three in flight at the start: three different arms
    Outcome outcome;
    outcome.plan = policy->plan(LinkState::kUp);
    CHECK(outcome.plan.arm == static_cast<std::size_t>(i));
    outcome.exit_arm = outcome.plan.arm;
    outcome.route = i == 2 ? Route::kFinal : Route::kExit;
    outcome.answer_confidence = 0.9f;
    outcome.confidence = confidence;
    outcome.cost = 0.1 * (i + 1);
    flying.push_back(outcome);
  }
  for (const std::size_t i : {2u, 0u, 1u}) policy->observe(flying[i]);
  CHECK(policy->rejected() == 0);
  const std::string state = policy->save_state();

  // In order instead: the same state, since nothing was lost or counted twice.
  const auto ordered = make("splitee", options);
  for (Outcome& outcome : flying) outcome.plan = ordered->plan(LinkState::kUp);
  for (const Outcome& outcome : flying) ordered->observe(outcome);
  CHECK(ordered->save_state() == state);

  ordered->observe(flying[1]);
  CHECK(ordered->rejected() == 1);
  CHECK(ordered->plan(LinkState::kUp).arm == policy->plan(LinkState::kUp).arm);
}

// Regret per sample, against always exit 3, where outcomes come `delay` samples late at most, some
// never, some twice.
double regret_with(std::string_view name, std::size_t delay, double lost, double twice) {
  const PolicyOptions options = options_for(6);
  const Trace trace = planted_trace({0.05, 0.3, 0.85, 0.9, 0.92, 1.0}, 20'000);
  const auto policy = make(name, options);
  Rng rng(kTestSeed);
  std::vector<std::vector<Outcome>> due(trace.samples() + delay + 1);
  const auto reward_of = [&](std::size_t sample, std::size_t arm, Outcome& outcome) {
    const double* row = &trace.confidence[6 * sample];
    const bool exits = arm == 5 || row[arm] >= 0.8;
    const std::size_t evaluated = outcome.plan.every_exit ? arm + 1 : 1;
    outcome.route = arm == 5 ? Route::kFinal : exits ? Route::kExit : Route::kOffload;
    outcome.exit_arm = exits ? arm : 5;
    outcome.answer_confidence = static_cast<float>(row[exits ? arm : 5]);
    outcome.cost = options.costs.cost(arm + 1, evaluated, !exits);
    return options.costs.reward(static_cast<double>(outcome.answer_confidence), outcome.cost);
  };
  double regret = 0;
  std::uint64_t duplicates = 0;
  std::vector<float> confidence(6);
  for (std::size_t t = 0; t < due.size(); ++t) {
    if (t < trace.samples()) {
      Outcome outcome, best;
      outcome.plan = policy->plan(LinkState::kUp);
      regret += reward_of(t, 2, best) - reward_of(t, outcome.plan.arm, outcome);
      if (rng.uniform() >= lost) {
        const std::size_t when = t + (delay > 0 ? rng.below(static_cast<std::uint32_t>(delay)) : 0);
        due[when].push_back(outcome);
        if (rng.uniform() < twice) {
          due[t + delay].push_back(outcome);
          ++duplicates;
        }
      }
    }
    for (Outcome& outcome : due[t]) {
      const std::size_t sample = static_cast<std::size_t>(outcome.plan.ticket - 1);
      for (std::size_t arm = 0; arm < 6; ++arm) {
        confidence[arm] = static_cast<float>(trace.confidence[6 * sample + arm]);
      }
      outcome.confidence = confidence;
      policy->observe(outcome);
    }
  }
  CHECK(policy->rejected() == duplicates);
  return regret / static_cast<double>(trace.samples());
}

TEST_CASE("feedback that is late, lost or doubled is counted once and costs little") {
  for (const std::string name : {"splitee", "splitee-s", "factored", "factored-alpha"}) {
    CAPTURE(name);
    const double promptly = regret_with(name, 0, 0.0, 0.0);
    const double troubled = regret_with(name, 100, 0.3, 0.2);
    CHECK(troubled < 1.5 * promptly + 0.01);  // 0.01 = the 100 samples late, at their dearest
  }
}

TEST_CASE("tickets wrap and leave out 0") {
  Tickets tickets(0xfffffffe);
  CHECK(tickets.issue() == 0xffffffff);
  CHECK(tickets.issue() == 1);
  CHECK(tickets.redeem(0xffffffff));
  CHECK_FALSE(tickets.redeem(0));
  CHECK(tickets.redeem(1));
  CHECK_FALSE(tickets.redeem(1));
}

TEST_CASE("outcomes later than the window of tickets are refused") {
  const PolicyOptions options = options_for(3);
  const auto policy = make("final", options);
  std::vector<float> confidence(3, 0.9f);
  Outcome outcome;
  outcome.plan = policy->plan(LinkState::kUp);
  outcome.exit_arm = 2;
  outcome.answer_confidence = 0.9f;
  outcome.confidence = confidence;
  for (int i = 0; i < 5000; ++i) (void)policy->plan(LinkState::kUp);
  policy->observe(outcome);
  CHECK(policy->rejected() == 1);
}

TEST_CASE("nothing is learned while the link is down") {
  const PolicyOptions options = options_for(4);
  for (const std::string_view name : policy_names()) {
    CAPTURE(std::string(name));
    if (name == "random" || name == "thompson") continue;  // their draws are their state
    if (name == "audited") continue;                       // its audits need no link
    const auto policy = make(name, options);
    const auto learn = [&](LinkState link, int samples) {
      EpisodeRunner session(*policy, options);
      Rng rng(kTestSeed);
      for (int i = 0; i < samples; ++i) session.run(link, RandomNetwork{rng, 4});
    };
    learn(LinkState::kUp, 40);
    const std::string before = policy->save_state();
    learn(LinkState::kDown, 40);
    CHECK(policy->save_state() == before);
    if (name.starts_with("splitee") || name.starts_with("factored")) {
      learn(LinkState::kNone, 40);
      CHECK(policy->save_state() != before);
    }
  }
}

TEST_CASE("options out of range are refused by name") {
  struct Case {
    std::string word;
    void (*spoil)(PolicyOptions&);
  };
  const Case cases[] = {
      {"layer_of", [](PolicyOptions& o) { o.layer_of.clear(); }},
      {"layer_of",
       [](PolicyOptions& o) {
         o.layer_of = {0, 1};
       }},
      {"ascend",
       [](PolicyOptions& o) {
         o.layer_of = {1, 3, 3};
       }},
      {"alpha", [](PolicyOptions& o) { o.alpha = 1.01; }},
      {"alpha", [](PolicyOptions& o) { o.alpha = std::nan(""); }},
      {"alpha per exit",
       [](PolicyOptions& o) {
         o.exit_alphas = {0.5, 0.5, 0.5};
       }},
      {"alpha per exit",
       [](PolicyOptions& o) {
         o.exit_alphas = {0.5, 0.5, 0.0, 0.5};
       }},
      {"split", [](PolicyOptions& o) { o.fixed_arm = 4; }},
      {"exploration", [](PolicyOptions& o) { o.exploration = -1; }},
      {"patience", [](PolicyOptions& o) { o.patience = 0; }},
      {"first exit", [](PolicyOptions& o) { o.first_exit = 0; }},
      {"first exit", [](PolicyOptions& o) { o.first_exit = 5; }},
      {"discount", [](PolicyOptions& o) { o.discount = 0.0; }},
      {"window", [](PolicyOptions& o) { o.window = 0; }},
      {"change", [](PolicyOptions& o) { o.change_threshold = -1.0; }},
      {"entropy", [](PolicyOptions& o) { o.entropy_threshold = 1.5; }},
      {"lambda", [](PolicyOptions& o) { o.costs.lambda1 = 0; }},
      {"lambda", [](PolicyOptions& o) { o.costs.lambda2 = std::nan(""); }},
      {"offload", [](PolicyOptions& o) { o.costs.offload = -0.1; }},
      {"mu", [](PolicyOptions& o) { o.costs.mu = HUGE_VAL; }},
  };
  for (const Case& c : cases) {
    PolicyOptions options = options_for(4);
    REQUIRE(make_policy("splitee", options).ok());
    c.spoil(options);
    const auto policy = make_policy("splitee", options);
    REQUIRE(!policy.ok());
    CAPTURE(policy.status().message());
    CHECK(policy.status().message().find(c.word) != std::string::npos);
  }
  const auto unknown = make_policy("split", options_for(4));
  REQUIRE(!unknown.ok());
  CHECK(unknown.status().message().find("splitee-s") != std::string::npos);
}

TEST_CASE("costs out of range are refused and the old ones kept") {
  const auto policy = make("splitee", options_for(3));
  CHECK(policy->set_costs({.lambda1 = 0.2, .lambda2 = 0.0, .offload = 0.1}).ok());
  CHECK(!policy->set_costs({.lambda1 = -0.2, .lambda2 = 0.4, .offload = 0.1}).ok());
  CHECK(!policy->set_costs({.lambda1 = 0.2, .lambda2 = 0.0, .offload = std::nan("")}).ok());
  CHECK(!policy->set_costs({.lambda1 = 0.0, .lambda2 = 0.0, .offload = 0.1}).ok());
}

TEST_CASE("cascades exit where their test first holds") {
  PolicyOptions options = options_for(4);
  options.patience = 2;
  std::vector<std::vector<float>> exits = {
      {0.4f, 0.6f, 0.0f}, {0.7f, 0.3f, 0.0f}, {0.75f, 0.25f, 0.0f}, {0.9f, 0.1f, 0.0f}};
  const auto first_exit = [&](std::string_view name, std::size_t skip = 0) {
    const auto policy = make(name, options);
    const Plan plan = policy->plan(LinkState::kUp);
    CHECK(plan.every_exit);
    std::size_t arm = 0;
    for (std::size_t round = 0; round <= skip; ++round) {
      for (arm = 0; policy->at_exit(plan, arm, exits[arm]).kind == Action::kContinue; ++arm) {
      }
    }
    return arm;
  };
  options.alpha = 0.7;
  CHECK(first_exit("threshold") == 1);
  options.alpha = 0.71;
  CHECK(first_exit("threshold") == 2);
  options.alpha = 0.99;
  CHECK(first_exit("threshold") == 3);
  CHECK(first_exit("patience") == 3);  // predictions 1 0 0 0: same twice at the last
  options.patience = 1;
  CHECK(first_exit("patience") == 2);
  CHECK(first_exit("patience", 1) == 2);  // a second sample starts afresh
  // Entropy of (0.7, 0.3) over ln 3 is 0.556, of (0.75, 0.25) 0.512.
  options.entropy_threshold = 0.55;
  CHECK(first_exit("entropy") == 2);
  options.entropy_threshold = 0.56;
  CHECK(first_exit("entropy") == 1);
  exits[0] = {0.6f, 0.4f, 0.0f};  // as the exits after it, and as the last of the sample before
  CHECK(first_exit("patience") == 1);
  CHECK(first_exit("patience", 1) == 1);
}

TEST_CASE("a threshold from exit k on looks at no exit before") {
  PolicyOptions options = options_for(4);
  options.alpha = 0.7;
  const Readings network{{0.6f, 0.8f, 0.5f, 0.9f}};
  struct Case {
    std::size_t first_exit, answered, looked_at;
  };
  for (const Case& c : {Case{1, 1, 2}, {2, 1, 1}, {3, 3, 2}, {4, 3, 1}}) {
    CAPTURE(c.first_exit);
    options.first_exit = c.first_exit;
    const auto policy = make("threshold", options);
    EpisodeRunner session(*policy, options);
    const Outcome& outcome = session.run(LinkState::kUp, network);
    CHECK(outcome.exit_arm == c.answered);
    CHECK(outcome.route == (c.answered == 3 ? Route::kFinal : Route::kExit));
    CHECK(outcome.cost == doctest::Approx(options.costs.cost(c.answered + 1, c.looked_at, false)));
    CHECK(policy->rejected() == 0);
  }
}

TEST_CASE("normalised entropy") {
  const std::vector<float> even = {0.25f, 0.25f, 0.25f, 0.25f};
  CHECK(normalised_entropy(even) == doctest::Approx(1.0));
  const std::vector<float> certain = {0.0f, 1.0f};
  CHECK(normalised_entropy(certain) == 0.0);
  const std::vector<float> spread = {0.7f, 0.15f, 0.15f};
  CHECK(normalised_entropy(spread) == doctest::Approx(normalised_entropy(0.7, 3)).epsilon(1e-6));
  CHECK(normalised_entropy(0.7, 2) == doctest::Approx(0.8812909));
}

TEST_CASE("read_exit takes the lowest of equal classes") {
  const std::vector<float> tie = {0.2f, 0.4f, 0.4f};
  const ExitReading reading = read_exit(tie);
  CHECK(reading.prediction == 1);
  CHECK(reading.confidence == 0.4f);
  CHECK(reading.classes == 3);
}

}  // namespace
}  // namespace splitee::policy
