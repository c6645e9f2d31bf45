#include <algorithm>
#include <cmath>

#include "policy/learners/arm_bandit.h"
#include "policy/learners/learners.h"
#include "policy/learners/splitee.h"

namespace splitee::policy {
namespace {

// The index of SplitEE from sums that may shrink. An arm without weight comes first.
std::size_t best_of_sums(std::span<const double> sum, std::span<const double> count, double rounds,
                         double exploration) {
  const double log_t = std::log(std::max(rounds, 1.0));
  std::size_t best_arm = 0;
  double best_index = 0.0;
  for (std::size_t arm = 0; arm < sum.size(); ++arm) {
    if (count[arm] <= 0.0) return arm;
    const double index = sum[arm] / count[arm] + exploration * std::sqrt(log_t / count[arm]);
    if (arm == 0 || index > best_index) {
      best_arm = arm;
      best_index = index;
    }
  }
  return best_arm;
}

// State: per arm f64 Q, N; f64 t; u64 next arm to try first.
class Discounted {
 public:
  explicit Discounted(const PolicyOptions& options)
      : exploration_(options.exploration),
        discount_(options.discount),
        sum_(options.arms()),
        count_(options.arms()) {}

  std::size_t best() {
    const std::size_t untried = first_pulls_.next(count_);
    if (untried < count_.size()) return untried;
    return best_of_sums(sum_, count_, rounds_, exploration_);
  }
  void update(std::size_t arm, double reward) {
    for (double& value : sum_) value *= discount_;
    for (double& value : count_) {
      value = value > 0.0 ? std::max(value * discount_, kLeastWeight) : 0.0;
    }
    rounds_ = rounds_ * discount_ + 1.0;
    sum_[arm] += reward;
    count_[arm] += 1.0;
  }
  void archive(StateArchive& archive) {
    archive.number(sum_);
    archive.non_negative(count_, StateArchive::kMostCount);
    archive.non_negative(rounds_, StateArchive::kMostCount);
    first_pulls_.archive(archive, count_.size());
    for (std::size_t arm = 0; arm < count_.size(); ++arm) {
      archive.require(count_[arm] == 0.0 || count_[arm] >= kLeastWeight);
      archive.require(count_[arm] <= rounds_);
      archive.require(std::abs(sum_[arm]) <= count_[arm] * StateArchive::kMostReward);
    }
  }

 private:
  // Never all the way down: a mean of 0 / 0 would be no number.
  static constexpr double kLeastWeight = 1e-100;

  double exploration_, discount_, rounds_ = 0;
  std::vector<double> sum_, count_;
  FirstPulls first_pulls_;
};

// State: u64 samples seen; then `window` slots, used round robin: f64 reward each, then u64 arm
// each. The sums are made anew from them whenever a round is complete, so that rounding cannot
// add up; per arm f64 Q, N.
class Window {
 public:
  explicit Window(const PolicyOptions& options)
      : exploration_(options.exploration),
        reward_(options.window),
        arm_(options.window),
        sum_(options.arms()),
        count_(options.arms()) {}

  std::size_t best() {
    const std::size_t held = std::min<std::size_t>(seen_, reward_.size());
    return best_of_sums(sum_, count_, static_cast<double>(held), exploration_);
  }

  void update(std::size_t arm, double reward) {
    const std::size_t slot = seen_ % reward_.size();
    if (seen_ >= reward_.size()) {
      sum_[arm_[slot]] -= reward_[slot];
      count_[arm_[slot]] -= 1.0;
    }
    reward_[slot] = reward;
    arm_[slot] = arm;
    sum_[arm] += reward;
    count_[arm] += 1.0;
    ++seen_;
    if (slot + 1 == reward_.size()) sum_anew();
  }

  void archive(StateArchive& archive) {
    archive.counter(seen_);
    archive.number(reward_);
    for (std::size_t& arm : arm_) archive.index(arm, sum_.size());
    archive.number(sum_);
    archive.count(count_);
    archive.require(counts_fit());
  }

 private:
  // Whether every arm counts the slots that are its own.
  bool counts_fit() const {
    std::vector<double> count(count_.size());
    for (std::size_t slot = 0; slot < std::min<std::size_t>(seen_, arm_.size()); ++slot) {
      count[arm_[slot]] += 1.0;
    }
    return count == count_;
  }
  void sum_anew() {
    std::ranges::fill(sum_, 0.0);
    for (std::size_t slot = 0; slot < reward_.size(); ++slot) sum_[arm_[slot]] += reward_[slot];
  }

  double exploration_;
  std::uint64_t seen_ = 0;
  std::vector<double> reward_;
  std::vector<std::size_t> arm_;
  std::vector<double> sum_, count_;
};

// State: that of splitee.h; per arm f64 n, mean, rise, fall of the test; u64 samples, restarts.
class Restart {
 public:
  explicit Restart(const PolicyOptions& options)
      : options_(options),
        ucb_(options),
        seen_(options.arms()),
        mean_(options.arms()),
        rise_(options.arms()),
        fall_(options.arms()) {}

  std::size_t best() {
    if (samples_ % kExploreEvery == kExploreEvery - 1) {
      return samples_ / kExploreEvery % options_.arms();
    }
    return ucb_.best();
  }

  void update(std::size_t arm, double reward) {
    ++samples_;
    ucb_.update(arm, reward);
    if (changed(arm, reward)) restart();
  }

  void archive(StateArchive& archive) {
    ucb_.archive(archive);
    archive.count(seen_);
    archive.number(mean_);
    archive.non_negative(rise_);
    archive.non_negative(fall_);
    archive.counter(samples_);
    archive.counter(restarts_);
    const auto samples = static_cast<double>(samples_);
    for (const double seen : seen_) archive.require(seen <= samples);
  }

 private:
  static constexpr std::uint64_t kExploreEvery = 100;
  static constexpr double kDrift = 0.05;   // reward; smaller changes are let pass
  static constexpr double kEnough = 30.0;  // observations before the mean is worth a comparison

  bool changed(std::size_t arm, double reward) {
    seen_[arm] += 1.0;
    mean_[arm] += (reward - mean_[arm]) / seen_[arm];
    if (seen_[arm] < kEnough) return false;
    rise_[arm] = std::max(0.0, rise_[arm] + reward - mean_[arm] - kDrift);
    fall_[arm] = std::max(0.0, fall_[arm] + mean_[arm] - reward - kDrift);
    return std::max(rise_[arm], fall_[arm]) > options_.change_threshold;
  }

  void restart() {
    ++restarts_;
    ucb_.restart();
    for (std::vector<double>* values : {&seen_, &mean_, &rise_, &fall_}) {
      std::ranges::fill(*values, 0.0);
    }
  }

  PolicyOptions options_;
  Ucb1 ucb_;
  std::vector<double> seen_, mean_, rise_, fall_;
  std::uint64_t samples_ = 0, restarts_ = 0;
};

}  // namespace

std::unique_ptr<Policy> make_discounted(const PolicyOptions& options) {
  return std::make_unique<ArmBandit<Discounted>>("discounted", options);
}
std::unique_ptr<Policy> make_window(const PolicyOptions& options) {
  return std::make_unique<ArmBandit<Window>>("window", options);
}
std::unique_ptr<Policy> make_restart(const PolicyOptions& options) {
  return std::make_unique<ArmBandit<Restart>>("restart", options);
}

}  // namespace splitee::policy
