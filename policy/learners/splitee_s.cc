#include "policy/learners/splitee_s.h"

#include <algorithm>
#include <cmath>

#include "policy/learners/splitee.h"

namespace splitee::policy {
namespace {

constexpr double kLargestVariance = 0.25;  // of a value in [0, 1]
constexpr double kPriorWeight = 4.0;

// Arm j's own outcome of a sample that went past it: exits evaluated so far are j + 1.
double exit_reward(const CostModel& costs, std::size_t layer, std::size_t arm, float confidence) {
  return costs.reward(static_cast<double>(confidence), costs.cost(layer, arm + 1, false));
}

bool ended_at_split(const Outcome& outcome) {
  return outcome.exit_arm == outcome.plan.arm;
}

class SplitEeS final : public PolicyBase {
 public:
  explicit SplitEeS(const PolicyOptions& options)
      : PolicyBase("splitee-s", options),
        seen_(options.arms()),
        exits_(options.arms()),
        exit_sum_(options.arms()),
        missed_(options.arms()),
        miss_sum_(options.arms()),
        miss_squares_(options.arms()),
        mean_(options.arms()),
        width_(options.arms()) {}

 private:
  Plan choose(LinkState) override {
    std::size_t arm = first_pulls_.next(seen_);
    if (arm == seen_.size()) arm = largest_index(mean_, width_, std::sqrt(std::log(rounds_)));
    return {.arm = arm, .every_exit = true};
  }

  void learn(const Outcome& outcome) override {
    const std::size_t split = outcome.plan.arm;
    if (!outcome.plan.every_exit || split >= options_.arms()) return;
    rounds_ += 1.0;
    for (std::size_t arm = 0; arm < split; ++arm) {
      seen_[arm] += 1.0;
      const float confidence = outcome.confidence[arm];
      if (is_sure(confidence))
        add_exit(arm, exit_reward(costs(), options_.layer_of[arm], arm, confidence));
    }
    seen_[split] += 1.0;
    if (ended_at_split(outcome)) {
      add_exit(split, reward(outcome));
    } else {
      add_miss(split, reward(outcome));
    }
    for (std::size_t arm = 0; arm <= split; ++arm) refresh(arm);
  }

  void add_exit(std::size_t arm, double value) {
    exits_[arm] += 1.0;
    exit_sum_[arm] += value;
  }

  void add_miss(std::size_t arm, double value) {
    const double before = scatter(arm);
    missed_[arm] += 1.0;
    miss_sum_[arm] += value;
    miss_squares_[arm] += value * value;
    scatter_ = std::max(0.0, scatter_ + scatter(arm) - before);
    misses_ += 1.0;
  }

  // Sum of squares around the arm's own mean.
  double scatter(std::size_t arm) const {
    if (missed_[arm] == 0.0) return 0.0;
    return std::max(0.0, miss_squares_[arm] - miss_sum_[arm] * miss_sum_[arm] / missed_[arm]);
  }

  void refresh(std::size_t arm) {
    const double miss_share = 1.0 - exits_[arm] / seen_[arm];
    double inverse_count = 1.0 / seen_[arm];
    double miss_mean = best_miss(arm);
    if (missed_[arm] > 0.0) {
      const double variance =
          (scatter_ + kPriorWeight * kLargestVariance) / (misses_ + kPriorWeight);
      inverse_count += miss_share * miss_share * variance / kLargestVariance / missed_[arm];
      miss_mean = miss_sum_[arm] / missed_[arm];
    }
    mean_[arm] = exit_sum_[arm] / seen_[arm] + miss_share * miss_mean;
    width_[arm] = options_.exploration * std::sqrt(inverse_count);
  }

  // An answer of confidence 1, at the least that a sample can cost beyond this arm.
  double best_miss(std::size_t arm) const {
    return costs().reward(1.0, costs().cost(options_.layer_of[arm], arm + 1, false));
  }

  void archive(StateArchive& archive) override {
    constexpr double kMost = StateArchive::kMostReward;
    archive.count(seen_);
    archive.count(exits_);
    archive.number(exit_sum_);
    archive.count(missed_);
    archive.number(miss_sum_);
    archive.non_negative(miss_squares_, kMost * kMost);
    archive.non_negative(scatter_, kMost * kMost);
    archive.count(misses_);
    archive.count(rounds_);
    first_pulls_.archive(archive, seen_.size());
    archive.number(mean_);
    archive.non_negative(width_);
    double misses = 0.0;
    for (std::size_t arm = 0; arm < seen_.size(); ++arm) {
      archive.require(exits_[arm] + missed_[arm] <= seen_[arm] && seen_[arm] <= rounds_);
      archive.require(arm == 0 || seen_[arm] <= seen_[arm - 1]);
      misses += missed_[arm];
    }
    archive.require(misses == misses_);
  }

  double rounds_ = 0;
  std::vector<double> seen_, exits_, exit_sum_;           // n_j, and the samples sure at j
  std::vector<double> missed_, miss_sum_, miss_squares_;  // m_j: own plays without an exit
  double scatter_ = 0, misses_ = 0;                       // over all arms, for s^2
  std::vector<double> mean_, width_;                      // what the index is made of
  FirstPulls first_pulls_;
};

class SplitEeSKnown final : public PolicyBase {
 public:
  explicit SplitEeSKnown(const PolicyOptions& options)
      : PolicyBase("splitee-s-known", options), ucb_(options) {}

 private:
  Plan choose(LinkState) override { return {.arm = ucb_.best(), .every_exit = true}; }

  void learn(const Outcome& outcome) override {
    const std::size_t split = outcome.plan.arm;
    if (!outcome.plan.every_exit || split >= options_.arms()) return;
    const bool final_known = outcome.route != Route::kExit;
    for (std::size_t arm = 0; arm < split; ++arm) {
      const float confidence = outcome.confidence[arm];
      if (is_sure(confidence)) {
        ucb_.add(arm, exit_reward(costs(), options_.layer_of[arm], arm, confidence));
      } else if (final_known) {
        ucb_.add(arm, missed_reward(outcome, arm));
      }
    }
    ucb_.update(split, reward(outcome));
  }

  // What arm j would have got where the sample's C_L is known.
  double missed_reward(const Outcome& outcome, std::size_t arm) const {
    const bool local = outcome.plan.link != LinkState::kUp || outcome.route == Route::kFallback;
    const bool sent = outcome.plan.link == LinkState::kUp;
    const std::size_t layers = local ? options_.layer_of.back() : options_.layer_of[arm];
    const std::size_t exits = arm + 1 + (local ? 1 : 0);
    const double sending = sent ? costs().offload_from(options_.layer_of[arm]) : 0.0;
    return costs().reward(static_cast<double>(outcome.answer_confidence),
                          costs().cost(layers, exits, false) + sending);
  }

  void archive(StateArchive& archive) override { ucb_.archive(archive); }

  Ucb1 ucb_;
};

}  // namespace

std::unique_ptr<Policy> make_splitee_s(const PolicyOptions& options) {
  return std::make_unique<SplitEeS>(options);
}

std::unique_ptr<Policy> make_splitee_s_known(const PolicyOptions& options) {
  return std::make_unique<SplitEeSKnown>(options);
}

}  // namespace splitee::policy
