// What the policies of this folder share: tickets, the checks of an outcome, saving and loading,
// and SplitEE's rule at the split. A policy adds choose(), learn() and its state.
// Internal to policy/. Thread rule: as policy.h.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "policy/policy.h"
#include "policy/state.h"

namespace splitee::policy {

// Plans whose outcome has not come yet. Remembers the last kWindow plans: an outcome later than
// that is refused like one that was seen already.
class Tickets {
 public:
  static constexpr std::size_t kWindow = 1024;

  explicit Tickets(std::uint32_t last = 0) : last_(last) {}

  std::uint32_t issue() {
    last_ = std::max(last_ + 1, 1u);  // wraps; 0 is none
    open_[last_ % kWindow] = last_;
    return last_;
  }
  bool redeem(std::uint32_t ticket) {
    std::uint32_t& slot = open_[ticket % kWindow];
    if (ticket == 0 || slot != ticket) return false;
    slot = 0;
    return true;
  }
  void forget() { open_.fill(0); }

 private:
  std::uint32_t last_;
  std::array<std::uint32_t, kWindow> open_{};  // 0: none
};

class PolicyBase : public Policy {
 public:
  Plan plan(LinkState link) final {
    Plan plan = choose(link);
    plan.link = link;
    plan.ticket = tickets_.issue();
    return plan;
  }

  // SplitEE's rule: nothing before the split; there, exit if sure, else offload (or run on).
  Action decide(const Plan& plan, std::size_t arm, const ExitReading& reading) override {
    if (arm < plan.arm) return Action::kContinue;
    if (arm == options_.last_arm() || is_sure(reading.confidence)) return Action::kExit;
    return plan.link == LinkState::kUp ? Action::kOffload : Action::kContinue;
  }

  void observe(const Outcome& outcome) final;
  Status set_costs(const CostModel& costs) final;
  std::uint64_t rejected() const final { return rejected_; }
  std::string save_state() const final;
  Status load_state(std::string_view bytes) final;
  std::string_view name() const final { return name_; }

 protected:
  PolicyBase(std::string_view name, const PolicyOptions& options)
      : options_(options),
        name_(name),
        alpha_(static_cast<float>(options.alpha)),
        costs_(options.costs) {}

  virtual Plan choose(LinkState link) = 0;
  virtual void costs_changed() {}
  // Whether learn() is to see outcomes of plans whose link was kDown too.
  virtual bool learns_without_link() const { return false; }
  // Called with checked outcomes.
  virtual void learn(const Outcome&) {}
  // Reads or writes everything that choose() and learn() change. Sizes are those of construction.
  virtual void archive(StateArchive&) {}

  // False if what archive() keeps does not depend on the costs; a state then fits any costs.
  virtual bool keeps_rewards() const { return true; }

  // In float, as the confidences are: 0.7 read from a trace is not below an alpha of 0.7.
  // False for NaN.
  bool is_sure(float confidence) const { return confidence >= alpha_; }
  double reward(const Outcome& outcome) const {
    return costs_.reward(static_cast<double>(outcome.answer_confidence), outcome.cost);
  }

  // The costs of now; options_.costs are those of the start.
  const CostModel& costs() const { return costs_; }

  const PolicyOptions options_;

 private:
  bool is_sound(const Outcome& outcome) const;
  bool are_sound(const Outcome& outcome) const;
  std::string body() const;
  PolicyOptions state_options() const;

  const std::string name_;
  const float alpha_;
  CostModel costs_;
  Tickets tickets_;
  std::uint64_t rejected_ = 0;
};

}  // namespace splitee::policy
