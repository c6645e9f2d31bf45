// Decisions of every policy on random streams, against references (reference.h,
// reference_audited.h).
//
// Usage: decision_fuzz [--seconds N | --cases N] [--seed S] [--family NAME]
// Families: each policy with a reference by its name, "replay", "scaled" and "restored" (properties
// of all policies), and the parts of the default one (default: all, in turn). Prints the seed of a
// case that is wrong and ends with 1; that seed alone repeats it with --cases 1.
#include "tests/policy/decision_fuzz.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>

#include "base/hash.h"
#include "policy/state.h"
#include "tests/policy/decision_stream.h"
#include "tests/policy/reference.h"

namespace splitee::policy::fuzzed {
namespace {

using reference::Reference;
using reference::Seen;

std::string difference;  // the first one of the case at hand

void wrong(const std::string& what) {
  if (difference.empty()) difference = what;
}

std::unique_ptr<Reference> make_reference(std::string_view name, const PolicyOptions& options) {
  auto made = reference::make_rule(name, options);
  if (!made) made = reference::make_bandit(name, options);
  if (!made) made = reference::make_factored(name, options);
  return made;
}

std::unique_ptr<Policy> make(std::string_view name, const PolicyOptions& options) {
  auto policy = make_policy(name, options);
  if (policy.ok()) return std::move(*policy);
  std::printf("options are refused: %s\n", policy.status().message().c_str());
  std::exit(2);
}

bool is_share(float value) {
  return value >= 0.0f && value <= 1.0f;
}

// The policy between an EpisodeRunner and its reference: each plan and each action is held against
// what the equations allow, and noted.
class Watched final : public Policy {
 public:
  Watched(std::unique_ptr<Policy> policy, Reference& reference)
      : policy_(std::move(policy)), reference_(reference) {}

  Plan plan(LinkState link) override {
    const Plan plan = policy_->plan(link);
    looked_.clear();
    actions_.clear();
    if (plan.link != link) wrong("the plan forgets the link");
    if (std::string what = reference_.wrong_plan(plan, link); !what.empty()) wrong("plan: " + what);
    return plan;
  }
  Action decide(const Plan& plan, std::size_t arm, const ExitReading& reading) override {
    const Action action = policy_->decide(plan, arm, reading);
    const unsigned allowed = reference_.allowed(plan, arm, reading);
    const unsigned taken = action.kind == Action::kExit      ? reference::kMayExit
                           : action.kind == Action::kOffload ? reference::kMayOffload
                                                             : reference::kMayContinue;
    if ((allowed & taken) == 0) wrong("exit " + std::to_string(arm) + ": another action");
    looked_.push_back(arm);
    actions_.push_back(action);
    return action;
  }
  void observe(const Outcome& outcome) override { policy_->observe(outcome); }
  std::uint64_t rejected() const override { return policy_->rejected(); }
  Status set_costs(const CostModel& costs) override { return policy_->set_costs(costs); }
  std::string save_state() const override { return policy_->save_state(); }
  Status load_state(std::string_view bytes) override { return policy_->load_state(bytes); }
  std::string_view name() const override { return policy_->name(); }

  void replace(std::unique_ptr<Policy> policy) { policy_ = std::move(policy); }
  const std::vector<std::size_t>& looked() const { return looked_; }
  const std::vector<Action>& actions() const { return actions_; }

 private:
  std::unique_ptr<Policy> policy_;
  Reference& reference_;
  std::vector<std::size_t> looked_;
  std::vector<Action> actions_;
};

// One sample as a network whose exits say what they are told.
struct Network {
  const Sample& sample;
  std::size_t classes;
  bool with_probabilities;
  std::vector<std::size_t>& evaluated;
  std::vector<float>& probabilities;

  ExitReading evaluate(std::size_t exit) const {
    evaluated.push_back(exit);
    const float confidence = sample.confidence[exit];
    if (!with_probabilities) {
      return {.confidence = confidence,
              .prediction = sample.prediction[exit],
              .classes = classes,
              .probabilities = {}};
    }
    const float others = (1.0f - confidence) / static_cast<float>(classes - 1);
    probabilities.assign(classes, std::min(others, confidence));
    if (std::isnan(confidence)) probabilities.assign(classes, 1.5f);
    probabilities[sample.prediction[exit]] = confidence;
    const ExitReading reading = read_exit(probabilities);
    const auto largest = std::ranges::max_element(probabilities) - probabilities.begin();
    const bool same = std::isnan(confidence) ? std::isnan(reading.confidence)
                                             : reading.confidence == confidence &&
                                                   reading.prediction == std::size_t(largest);
    if (!same) wrong("an exit is read otherwise");
    return reading;
  }
};

// One stream through one policy and its reference.
class Session {
 public:
  Session(std::string_view name, Rng& rng, std::size_t most_arms)
      : name_(name),
        rng_(rng),
        options_(any_options(rng, most_arms)),
        costs_(options_.costs),
        stream_(rng, options_),
        reference_(make_reference(name, options_)),
        policy_(make(name, options_), *reference_),
        runner_(policy_, options_),
        window_(one_in(rng, 2) ? 1 : 1 + rng.below(6)),
        shuffled_(one_in(rng, 3)),
        restless_(one_in(rng, 2)) {}

  std::size_t run(std::size_t samples) {
    for (std::size_t t = 0; t < samples && difference.empty(); ++t) {
      if (restless_ && one_in(rng_, 40)) change_costs();
      if (restless_ && one_in(rng_, 60)) restore();
      start();
      while (open_.size() >= window_) learn();
      if (t % 50 == 49) compare_numbers();
      if (!difference.empty()) difference += " (sample " + std::to_string(t) + ")";
    }
    if (difference.empty()) compare_numbers();
    return samples;
  }

 private:
  struct Open {
    Episode episode;
    bool sound = true;
  };

  void start() {
    const Sample sample = stream_.next();
    std::vector<std::size_t> evaluated;
    const Network network{sample, stream_.classes(), stream_.with_probabilities(), evaluated,
                          probabilities_};
    Open& open = open_.emplace_back();
    if (runner_.start(open.episode, sample.link, network) == EpisodeRunner::Step::kSend) {
      runner_.finish(open.episode, sample.reply, network, runner_.offload_cost(open.episode));
    }
    open.sound = check(open.episode, sample, evaluated);
  }

  // The outcome against the actions taken; whether a policy may learn from it.
  bool check(const Episode& episode, const Sample& sample,
             const std::vector<std::size_t>& evaluated) {
    const Outcome& outcome = episode.outcome;
    const Plan& plan = outcome.plan;
    const std::size_t last = options_.last_arm();
    std::vector<std::size_t> wanted = policy_.looked();
    const bool nothing = wanted.empty();  // sent at once, or run on for want of a link
    const auto kind = nothing ? Action::kOffload : policy_.actions().back().kind;
    const bool sends = kind == Action::kOffload && plan.link == LinkState::kUp;
    const bool on = sends ? !sample.reply : kind != Action::kExit;
    if (on) wanted.push_back(last);
    const std::size_t from = nothing ? 0 : policy_.looked().back();
    const Route route = sends                ? (on ? Route::kFallback : Route::kOffload)
                        : on || from == last ? Route::kFinal
                                             : Route::kExit;
    const std::size_t at = route == Route::kExit ? from : last;
    const std::size_t sent_layer = nothing ? 0 : options_.layer_of[from];
    const std::size_t layers = route == Route::kOffload ? sent_layer : options_.layer_of[at];
    const double cost = reference::gamma(costs_, layers, wanted.size()) +
                        (sends ? reference::offload(costs_, sent_layer) : 0.0);
    if (evaluated != wanted) wrong("other exits are evaluated");
    if (outcome.route != route || outcome.exit_arm != at) wrong("another route");
    const double most = 1.0 + cost + costs_.lambda1 * static_cast<double>(layers);
    if (!(std::abs(outcome.cost - cost) <= 1e-12 * most)) wrong("another cost");
    return sound(outcome, sample);
  }

  // Every exit that was looked at up to the split, and the answer, must be a confidence.
  bool sound(const Outcome& outcome, const Sample& sample) const {
    if (!is_share(outcome.answer_confidence)) return false;
    const bool in_turn = outcome.plan.first == kAsPlanned;
    for (const std::size_t exit : policy_.looked()) {
      if (in_turn && !is_share(sample.confidence[exit])) return false;
    }
    return true;
  }

  void learn() {
    const std::size_t which = shuffled_ ? rng_.below(static_cast<std::uint32_t>(open_.size())) : 0;
    Open& open = open_[which];
    if (!one_in(rng_, 30)) {  // else its answer never comes
      learn_once(open);
      if (one_in(rng_, 30)) refuse(open);
    }
    open_.erase(open_.begin() + static_cast<std::ptrdiff_t>(which));
  }
  void learn_once(Open& open) {
    if (!open.sound) return refuse(open);
    runner_.learn(open.episode);
    const Outcome& outcome = open.episode.outcome;
    if (outcome.plan.link == LinkState::kDown) return;
    reference_->learn({outcome.plan, outcome.route, outcome.exit_arm, open.episode.confidence,
                       static_cast<double>(outcome.answer_confidence), outcome.cost, costs_});
  }
  void refuse(Open& open) {
    runner_.learn(open.episode);
    ++refused_;
  }

  void change_costs() {
    CostModel costs = any_costs(rng_, options_.layer_of.back());
    if (one_in(rng_, 5)) {
      costs.offload = any_of(rng_, {-1.0, std::nan(""), 1e31});
      if (policy_.set_costs(costs).ok()) wrong("bad costs are taken");
      return;
    }
    if (!policy_.set_costs(costs).ok()) wrong("good costs are refused");
    runner_.set_costs(costs);
    reference_->set_costs(costs);
    costs_ = costs;
  }

  // Into the same policy, whose samples on their way are forgotten, or into a new one.
  void restore() {
    const std::string state = policy_.save_state();
    if (one_in(rng_, 2)) {
      PolicyOptions options = options_;
      options.seed += 1;
      auto next = make(name_, options);
      if (!next->set_costs(costs_).ok()) wrong("good costs are refused");
      policy_.replace(std::move(next));
      open_.clear();
    }
    if (!policy_.load_state(state).ok()) wrong("its own state is refused");
    if (policy_.save_state() != state) wrong("another state than was loaded");
    for (Open& open : open_) refuse(open);
    open_.clear();
  }

  void compare_numbers() {
    if (policy_.rejected() != refused_) wrong("another number of outcomes refused");
    const std::vector<double> expected = reference_->numbers();
    const std::string state = policy_.save_state();
    const std::string_view bytes(state);
    // The options are told apart by the costs of now, or by none.
    PolicyOptions options = options_;
    options.costs = costs_;
    auto body = open_state(bytes, name_, options);
    options.costs = CostModel();
    if (!body.ok()) body = open_state(bytes, name_, options);
    if (!body.ok()) return wrong("a state without a body");
    if (body->size() < 8 * (1 + expected.size())) return wrong("a state too short");
    for (std::size_t i = 0; i < expected.size(); ++i) {
      double value = 0;
      std::memcpy(&value, body->data() + 8 * (1 + i), 8);
      const double off = std::abs(value - expected[i]);
      if (off <= reference_->tolerance() * (1.0 + static_cast<double>(i + 400))) continue;
      wrong("number " + std::to_string(i) + " learned: " + std::to_string(value) + ", expected " +
            std::to_string(expected[i]));
    }
  }

  std::string name_;
  Rng& rng_;
  PolicyOptions options_;
  CostModel costs_;
  Stream stream_;
  std::unique_ptr<Reference> reference_;
  Watched policy_;
  EpisodeRunner runner_;
  std::size_t window_;
  bool shuffled_, restless_;
  std::deque<Open> open_;
  std::vector<float> probabilities_;
  std::uint64_t refused_ = 0;
};

std::size_t policy_case(std::string_view name, Rng& rng) {
  const bool slow = name == "adaptive" || name == "splitee-s" || name == "factored-alpha";
  const bool many = one_in(rng, 4);
  const std::size_t arms = many ? 20 : 6;
  const std::size_t samples = 20 + rng.below(many ? 60 : slow ? 150 : 350);
  const bool long_one = slow && one_in(rng, 12);  // adaptive looks at less from 300 samples on
  return long_one ? Session(name, rng, 3).run(500) : Session(name, rng, arms).run(samples);
}

std::vector<Family> families() {
  std::vector<Family> all;
  for (const std::string_view name : policy_names()) {
    if (!make_reference(name, any_options_once())) continue;
    all.push_back({name, [name](Rng& rng) {
                     const std::size_t samples = policy_case(name, rng);
                     return Tried{samples, difference};
                   }});
  }
  for (const Family& family : property_families()) all.push_back(family);
  for (const Family& family : audited_families()) all.push_back(family);
  return all;
}

struct Arguments {
  double seconds = 0;
  std::size_t cases = 40;
  std::uint64_t seed = 1;
  std::string family;
};

bool run_family(const Family& family, const Arguments& arguments) {
  const auto start = std::chrono::steady_clock::now();
  const auto passed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  std::size_t cases = 0, samples = 0;
  while (arguments.seconds > 0 ? passed() < arguments.seconds : cases < arguments.cases) {
    const std::uint64_t seed = arguments.seed + cases;
    Rng rng(mix_seed(seed) ^ content_hash(std::as_bytes(std::span(family.name))));
    difference.clear();
    const Tried tried = family.run(rng);
    if (!tried.difference.empty()) {
      const std::string name(family.name);
      std::printf("%s: %s\nrepeat with --family %s --seed %llu --cases 1\n", name.c_str(),
                  tried.difference.c_str(), name.c_str(), static_cast<unsigned long long>(seed));
      return false;
    }
    samples += tried.compared;
    ++cases;
  }
  std::printf("%s: %zu cases from seed %llu, %zu compared, %.1f s\n",
              std::string(family.name).c_str(), cases,
              static_cast<unsigned long long>(arguments.seed), samples, passed());
  std::fflush(stdout);
  return true;
}

int run(const Arguments& arguments) {
  bool known = false, good = true;
  for (const Family& family : families()) {
    if (!arguments.family.empty() && family.name != arguments.family) continue;
    known = true;
    good = run_family(family, arguments) && good;
  }
  if (!known) std::fputs("unknown family\n", stderr);
  return !known ? 2 : good ? 0 : 1;
}

}  // namespace

PolicyOptions any_options_once() {
  Rng rng(1);
  return any_options(rng, 3);
}

}  // namespace splitee::policy::fuzzed

int main(int argc, char** argv) {
  splitee::policy::fuzzed::Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--seconds") arguments.seconds = std::strtod(argv[i + 1], nullptr);
    if (flag == "--cases") arguments.cases = std::strtoul(argv[i + 1], nullptr, 10);
    if (flag == "--seed") arguments.seed = std::strtoul(argv[i + 1], nullptr, 10);
    if (flag == "--family") arguments.family = argv[i + 1];
  }
  return splitee::policy::fuzzed::run(arguments);
}
