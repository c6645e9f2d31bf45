// What the two factored learners share (formulas: factored.h): the choice by index below a ceiling,
// and what a sample costs that does not exit. Internal to policy/. Thread rule: as policy.h.
#pragma once

#include <cmath>

#include "policy/learners/policy_base.h"

namespace splitee::policy {

class FactoredBase : public PolicyBase {
 protected:
  static constexpr double kSharedWeight = 4.0;  // observations that all others' C_L count for
  static constexpr double kBonus = 0.8;

  using PolicyBase::PolicyBase;
  virtual double index(std::size_t arm, LinkState link, double log_t) const = 0;

  // Cost of a sample that does not exit at the arm.
  double miss_cost(std::size_t arm, LinkState link) const {
    const double local = costs().cost(options_.layer_of.back(), arm + 2, false);
    if (link != LinkState::kUp) return local;
    const double lost = lost_ / (sent_ + 1.0);
    return costs().offload_from(options_.layer_of[arm]) + (1.0 - lost) * gamma(arm) + lost * local;
  }
  // No reward of the arm is higher.
  double ceiling(std::size_t arm) const { return 1.0 - costs().mu * gamma(arm); }
  double gamma(std::size_t arm) const {
    return costs().cost(options_.layer_of[arm], arm + 1, false);
  }

  // After a sample that its split did not answer.
  void count_sent(const Outcome& outcome) {
    if (outcome.route == Route::kFinal) return;
    sent_ += 1.0;
    lost_ += outcome.route == Route::kFallback ? 1.0 : 0.0;
  }
  void archive_counts(StateArchive& archive) {
    archive.count(rounds_);
    archive.count(sent_);
    archive.count(lost_);
    archive.require(lost_ <= sent_ && sent_ <= rounds_);
  }

  double rounds_ = 0;

 private:
  Plan choose(LinkState link) override {
    const double log_t = std::log(rounds_ + 1.0);
    std::size_t best_arm = 0;
    double best_index = index(0, link, log_t);
    // No index is above its arm's ceiling, and ceilings fall with depth.
    for (std::size_t arm = 1; arm < options_.arms() && ceiling(arm) > best_index; ++arm) {
      const double candidate = index(arm, link, log_t);
      if (candidate > best_index) {
        best_arm = arm;
        best_index = candidate;
      }
    }
    return {.arm = best_arm, .every_exit = true};
  }

  bool keeps_rewards() const final { return false; }

  double sent_ = 0, lost_ = 0;
};

}  // namespace splitee::policy
