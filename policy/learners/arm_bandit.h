// SplitEE with any learner over arms (arXiv 2309.09195, algorithm 1): play the learner's arm, learn
// from the arm played. Internal to policy/. Thread rule: as policy.h.
//
// Learner, by duck typing; it decides, and never sees anything but (arm, reward):
//   explicit Learner(const PolicyOptions&);
//   std::size_t best();                            the arm to play now; an arm never seen comes
//                                                  before all others
//   void update(std::size_t arm, double reward);
//   void archive(StateArchive&);
//
// Rewards by link: up: C - mu*gamma at an exit, C_L - mu*(gamma + o) offloaded, and what was
// really paid, C_L - mu*(gamma_L + o), when the offload was lost. No link: a sample that does not
// exit at its split runs to the last layer, and its reward is C_L - mu*gamma_L.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "policy/learners/policy_base.h"

namespace splitee::policy {

// Finds an arm without observations. Goes round from the last one handed out, so that several
// samples in flight at the start try several arms.
class FirstPulls {
 public:
  // Index of an arm with count 0, or counts.size() if there is none.
  std::size_t next(std::span<const double> counts) {
    if (done_) return counts.size();
    for (std::size_t step = 0; step < counts.size(); ++step) {
      const std::size_t arm = (cursor_ + step) % counts.size();
      if (counts[arm] == 0.0) {
        cursor_ = (arm + 1) % counts.size();
        return arm;
      }
    }
    done_ = true;
    return counts.size();
  }
  void archive(StateArchive& archive, std::size_t arms) {
    archive.index(cursor_, arms);
    done_ = false;
  }

 private:
  std::size_t cursor_ = 0;
  bool done_ = false;  // counts never fall back to 0
};

template <class Learner>
class ArmBandit final : public PolicyBase {
 public:
  ArmBandit(std::string_view name, const PolicyOptions& options)
      : PolicyBase(name, options), learner_(options) {}

 private:
  Plan choose(LinkState) override { return {.arm = learner_.best()}; }
  void learn(const Outcome& outcome) override {
    if (outcome.plan.arm < options_.arms()) learner_.update(outcome.plan.arm, reward(outcome));
  }
  void archive(StateArchive& archive) override { learner_.archive(archive); }

  Learner learner_;
};

}  // namespace splitee::policy
