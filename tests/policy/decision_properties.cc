// Of every policy, the default one above all: a live stream step by step decides as a replay of it;
// a state taken at any sample goes on as if nothing had happened; costs in another unit change
// nothing.
#include <cmath>

#include "policy/replay/replay.h"
#include "tests/policy/decision_fuzz.h"
#include "tests/policy/decision_stream.h"

namespace splitee::policy::fuzzed {
namespace {

struct Step {
  std::size_t arm = 0;
  Route route = Route::kFinal;
  double cost = 0;  // in lambda
  friend bool operator==(const Step&, const Step&) = default;
};

PolicyOptions options_of(Rng& rng, std::size_t most_arms) {
  PolicyOptions options = any_options(rng, most_arms);
  options.max_disagreement = any_of(rng, {0.0, 0.01, 0.05, 0.5});
  options.level = any_of(rng, {0.5, 0.95, 0.999});
  if (one_in(rng, 5)) options.objective = Objective::kReward;
  if (one_in(rng, 5)) {
    options.objective = Objective::kBudget;
    options.budget = any_of(rng, {0.5, 3.0, 20.0});
  }
  const std::size_t rows = one_in(rng, 3) ? 20 + rng.below(400) : 0;
  for (std::size_t i = 0; i < rows * options.arms(); ++i) {
    const bool last = i % options.arms() + 1 == options.arms();
    const auto confidence = static_cast<float>(0.5 + 0.5 * rng.uniform());
    options.prior_rows.push_back(!last && one_in(rng, 8) ? -confidence : confidence);
  }
  options.prior_kinds = 1 + rng.below(2);
  return options;
}

// A trace whose exits agree the more with the last one the surer they are.
Trace trace_of(Rng& rng, std::size_t exits, std::size_t samples) {
  Trace trace;
  trace.exits = exits;
  const bool few_values = one_in(rng, 3), repeats = one_in(rng, 3);
  for (std::size_t t = 0; t < samples; ++t) {
    trace.label.push_back(static_cast<ClassNumber>(rng.below(3)));
    const bool again = repeats && t > 0 && one_in(rng, 2);
    for (std::size_t exit = 0; exit < exits; ++exit) {
      const double depth = static_cast<double>(exit + 1) / static_cast<double>(exits);
      double doubt = (1.1 - depth) * 0.5 * rng.uniform();
      if (few_values) doubt = std::round(4 * doubt) / 4;
      const bool differs = exit + 1 < exits && rng.uniform() < doubt;
      const std::size_t before = trace.confidence.size() - exits;
      trace.confidence.push_back(again ? trace.confidence[before] : 1.0 - doubt);
      trace.prediction.push_back(again ? trace.prediction[before] : differs ? 1 : 0);
    }
  }
  return trace;
}

struct Lossless {
  const Trace& trace;
  std::size_t sample;
  ExitReading evaluate(std::size_t exit) const {
    const std::size_t at = sample * trace.exits + exit;
    return {.confidence = static_cast<float>(trace.confidence[at]),
            .prediction = static_cast<std::size_t>(trace.prediction[at]),
            .classes = trace.classes(),
            .probabilities = {}};
  }
};

// One sample through a policy's own interface, without an EpisodeRunner.
class Live {
 public:
  Live(std::string_view name, const PolicyOptions& options)
      : options_(options), policy_(std::move(*make_policy(name, options))) {}

  Policy& policy() { return *policy_; }

  Step step(const Trace& trace, std::size_t sample, LinkState link) {
    network_ = {&trace, sample};
    confidence_.assign(options_.arms(), std::nanf(""));
    classes_.assign(options_.arms(), kNoClass);
    exits_ = 0;
    outcome_ = Outcome();
    outcome_.plan = policy_->plan(link);
    const Plan& plan = outcome_.plan;
    if (plan.arm == kOffloadAtOnce) {
      if (plan.link != LinkState::kUp) return finish(look(last()), last(), Route::kFinal, plan.arm);
      return send(0);
    }
    return walk();
  }

 private:
  struct At {
    const Trace* trace = nullptr;
    std::size_t sample = 0;
  };

  std::size_t last() const { return options_.last_arm(); }
  ExitReading look(std::size_t exit) {
    const ExitReading reading = Lossless{*network_.trace, network_.sample}.evaluate(exit);
    confidence_[exit] = reading.confidence;
    classes_[exit] = static_cast<std::uint32_t>(reading.prediction);
    ++exits_;
    return reading;
  }

  Step walk() {
    const Plan& plan = outcome_.plan;
    const bool named = plan.first != kAsPlanned;
    std::size_t exit = named ? plan.first : plan.every_exit ? 0 : plan.arm;
    bool audited = named && plan.every_exit;
    while (true) {
      const ExitReading reading = look(exit);
      const Action action = policy_->decide(plan, exit, reading);
      audited = audited || action.audit;
      if (action.would_answer) outcome_.would_answer = exit;
      const std::size_t arm = named ? exit : plan.arm;
      if (action.kind == Action::kOffload) return send(options_.layer_of[exit], arm);
      if (action.kind == Action::kExit) {
        const Route route = audited ? Route::kAudit : exit == last() ? Route::kFinal : Route::kExit;
        return finish(reading, exit, route, arm);
      }
      if (!named && exit == plan.arm) return finish(look(last()), last(), Route::kFinal, plan.arm);
      exit = named ? action.next : exit + 1;
    }
  }

  Step send(std::size_t layer, std::size_t arm = kOffloadAtOnce) {
    const ExitReading answer = Lossless{*network_.trace, network_.sample}.evaluate(last());
    const CostModel& costs = options_.costs;
    const double here =
        layer == 0 ? costs.lambda2 * static_cast<double>(exits_) : costs.cost(layer, exits_, false);
    outcome_.cost = here + costs.offload_from(layer);
    outcome_.route = Route::kOffload;
    outcome_.exit_arm = last();
    outcome_.answer_confidence = answer.confidence;
    return learn(arm);
  }
  Step finish(const ExitReading& reading, std::size_t exit, Route route, std::size_t arm) {
    outcome_.cost = options_.costs.cost(options_.layer_of[exit], exits_, false);
    outcome_.route = route;
    outcome_.exit_arm = exit;
    outcome_.answer_confidence = reading.confidence;
    outcome_.answer_class = static_cast<std::uint32_t>(reading.prediction);
    return learn(arm);
  }
  Step learn(std::size_t arm) {
    outcome_.confidence = confidence_;
    outcome_.classes = classes_;
    policy_->observe(outcome_);
    return {arm, outcome_.route, outcome_.cost};
  }

  PolicyOptions options_;
  std::unique_ptr<Policy> policy_;
  At network_;
  std::vector<float> confidence_;
  std::vector<std::uint32_t> classes_;
  std::size_t exits_ = 0;
  Outcome outcome_;
};

std::string any_policy(Rng& rng) {
  if (one_in(rng, 2)) return std::string(kDefaultPolicy);
  const auto names = policy_names();
  return std::string(names[rng.below(static_cast<std::uint32_t>(names.size()))]);
}

std::string told(const std::string& policy, std::size_t sample, const Step& a, const Step& b) {
  const auto text = [](const Step& step) {
    return "arm " + std::to_string(static_cast<int>(step.arm)) + " " +
           std::string(route_name(step.route)) + " " + std::to_string(step.cost);
  };
  return policy + ", sample " + std::to_string(sample) + ": " + text(a) + " against " + text(b);
}

bool alike(const Step& a, const Step& b) {
  return a.arm == b.arm && a.route == b.route && std::abs(a.cost - b.cost) <= 1e-9 * (1 + a.cost);
}

// With other labels, which nobody may look at.
Tried replay_case(Rng& rng) {
  const std::string name = any_policy(rng);
  ReplayOptions replayed;
  replayed.policy = name;
  replayed.policy_options = options_of(rng, 12);
  replayed.order = Order::kFile;
  replayed.server = !one_in(rng, 3);
  replayed.seed = rng.next();
  Trace trace = trace_of(rng, replayed.policy_options.arms(), 50 + rng.below(1200));
  PolicyOptions options = replayed.policy_options;
  options.seed = mix_seed(run_seed(replayed, 0));
  Live live(name, options);
  std::vector<Step> steps;
  for (std::size_t t = 0; t < trace.samples(); ++t) {
    steps.push_back(live.step(trace, t, replayed.server ? LinkState::kUp : LinkState::kNone));
    steps.back().cost /= options.costs.lambda();
  }
  Tried tried{trace.samples(), ""};
  for (ClassNumber& label : trace.label) label = static_cast<ClassNumber>(rng.below(3));
  replayed.on_decision = [&](const Decision& decision) {
    const Step step{decision.arm, decision.route, decision.cost};
    if (tried.difference.empty() && !alike(step, steps[decision.t])) {
      tried.difference = told(name, decision.t, steps[decision.t], step);
    }
  };
  if (!replay(trace, replayed).ok()) tried.difference = name + ": no replay";
  return tried;
}

LinkState any_link(Rng& rng) {
  constexpr LinkState kLinks[] = {LinkState::kUp, LinkState::kUp, LinkState::kNone,
                                  LinkState::kDown};
  return kLinks[rng.below(4)];
}

// The same coins too: only restarted() draws others.
Tried restored_case(Rng& rng) {
  const std::string name = any_policy(rng);
  const PolicyOptions options = options_of(rng, 12);
  const std::size_t samples = 50 + rng.below(1200);
  const Trace trace = trace_of(rng, options.arms(), samples);
  std::size_t next = rng.below(static_cast<std::uint32_t>(samples));
  Live whole(name, options);
  PolicyOptions other = options;
  other.seed += 1;
  auto cut = std::make_unique<Live>(name, options);
  Tried tried{samples, ""};
  for (std::size_t t = 0; t < samples && tried.difference.empty(); ++t) {
    if (t == next) {
      const std::string state = cut->policy().save_state();
      cut = std::make_unique<Live>(name, other);
      if (!cut->policy().load_state(state).ok()) tried.difference = name + ": its own is refused";
      if (cut->policy().save_state() != state) tried.difference = name + ": is saved otherwise";
      next += 1 + rng.below(300);
    }
    const LinkState link = any_link(rng);
    const Step a = whole.step(trace, t, link), b = cut->step(trace, t, link);
    if (!(a == b)) tried.difference = told(name, t, a, b);
  }
  if (tried.difference.empty() && whole.policy().save_state() != cut->policy().save_state()) {
    tried.difference = name + ": another state in the end";
  }
  return tried;
}

// All costs times 2^k, and mu over it: nothing rounds otherwise.
Tried scaled_case(Rng& rng) {
  const std::string name = any_policy(rng);
  const PolicyOptions options = options_of(rng, 12);
  const std::size_t samples = 50 + rng.below(1200);
  const Trace trace = trace_of(rng, options.arms(), samples);
  const double factor = std::ldexp(1.0, static_cast<int>(rng.below(13)) - 6);
  PolicyOptions scaled = options;
  CostModel& costs = scaled.costs;
  for (double* cost : {&costs.lambda1, &costs.lambda2, &costs.offload}) *cost *= factor;
  for (double& cost : costs.offload_by_layer) cost *= factor;
  costs.mu /= factor;
  Tried tried{samples, ""};
  // At the limit of what check_costs() takes.
  if (!make_policy(name, scaled).ok()) return tried;
  Live one(name, options), two(name, scaled);
  for (std::size_t t = 0; t < samples && tried.difference.empty(); ++t) {
    const LinkState link = any_link(rng);
    const Step a = one.step(trace, t, link);
    Step b = two.step(trace, t, link);
    b.cost /= factor;
    if (!(a == b)) tried.difference = told(name, t, a, b);
  }
  return tried;
}

}  // namespace

std::vector<Family> property_families() {
  return {{"replay", replay_case}, {"restored", restored_case}, {"scaled", scaled_case}};
}

}  // namespace splitee::policy::fuzzed
