#include <algorithm>
#include <cmath>
#include <numbers>

#include "policy/learners/arm_bandit.h"
#include "policy/learners/learners.h"

namespace splitee::policy {
namespace {

// What an index may be made of.
struct ArmView {
  double mean, variance, count;
  double log_t;
};

// Maps every reward that the costs allow to [0, 1].
class RewardScale {
 public:
  explicit RewardScale(const PolicyOptions& options) {
    const CostModel& costs = options.costs;
    double sending = 0.0;
    for (const std::size_t layer : options.layer_of) {
      sending = std::max(sending, costs.offload_from(layer));
    }
    const double highest = costs.reward(1.0, costs.cost(options.layer_of.front(), 1, false));
    lowest_ = costs.reward(0.0, costs.cost(options.layer_of.back(), 2, false) + sending);
    // Beside the largest costs a confidence is lost, and with one exit there is no range then.
    per_range_ = highest > lowest_ ? 1.0 / (highest - lowest_) : 0.0;
  }
  double scaled(double reward) const {
    return std::clamp((reward - lowest_) * per_range_, 0.0, 1.0);
  }

 private:
  double lowest_ = 0, per_range_ = 0;
};

// Rule, by duck typing: Rule(const PolicyOptions&); double index(const ArmView&);
// void archive(StateArchive&).
// State: per arm f64 count, sum, sum of squares; f64 t; u64 next arm to try first; the rule's.
template <class Rule>
class IndexLearner {
 public:
  explicit IndexLearner(const PolicyOptions& options)
      : scale_(options),
        rule_(options),
        count_(options.arms()),
        sum_(options.arms()),
        squares_(options.arms()) {}

  std::size_t best() {
    const std::size_t untried = first_pulls_.next(count_);
    if (untried < count_.size()) return untried;
    const double log_t = std::log(rounds_);
    if constexpr (requires(const ArmView& arm) { rule_.surely_below(arm, 0.0); }) {
      favourite_ = best_of_contenders(log_t);
      return favourite_;
    }
    std::size_t best_arm = 0;
    double best_index = -1.0;
    for (std::size_t arm = 0; arm < count_.size(); ++arm) {
      const double index = rule_.index(view(arm, log_t));
      if (arm == 0 || index > best_index) {
        best_arm = arm;
        best_index = index;
      }
    }
    return best_arm;
  }

  void update(std::size_t arm, double reward) {
    const double x = scale_.scaled(reward);
    rounds_ += 1.0;
    count_[arm] += 1.0;
    sum_[arm] += x;
    squares_[arm] += x * x;
  }

  void archive(StateArchive& archive) {
    archive.count(count_);
    archive.non_negative(sum_);
    archive.non_negative(squares_);
    archive.count(rounds_);
    first_pulls_.archive(archive, count_.size());
    for (std::size_t arm = 0; arm < count_.size(); ++arm) {
      archive.require(count_[arm] <= rounds_);
      // Of scaled rewards, which are in [0, 1].
      archive.require(squares_[arm] <= sum_[arm] && sum_[arm] <= count_[arm]);
    }
    rule_.archive(archive);
  }

 private:
  ArmView view(std::size_t arm, double log_t) const {
    const double mean = sum_[arm] / count_[arm];
    const double variance = std::max(0.0, squares_[arm] / count_[arm] - mean * mean);
    return {mean, variance, count_[arm], log_t};
  }

  // The same arm, for a rule that can tell more cheaply than by the index that it is below another:
  // begins with the arm that was best the last time.
  std::size_t best_of_contenders(double log_t) {
    std::size_t best_arm = favourite_;
    double best_index = rule_.index(view(favourite_, log_t));
    for (std::size_t arm = 0; arm < count_.size(); ++arm) {
      const ArmView seen = view(arm, log_t);
      if (arm == favourite_ || rule_.surely_below(seen, best_index)) continue;
      const double index = rule_.index(seen);
      if (index > best_index || (index == best_index && arm < best_arm)) {
        best_arm = arm;
        best_index = index;
      }
    }
    return best_arm;
  }

  RewardScale scale_;
  Rule rule_;
  double rounds_ = 0;
  std::size_t favourite_ = 0;  // only a starting point: no part of the state
  std::vector<double> count_, sum_, squares_;
  FirstPulls first_pulls_;
};

// A rule without state of its own.
class PlainRule {
 public:
  explicit PlainRule(const PolicyOptions& options) : c_(options.exploration) {}
  void archive(StateArchive&) {}

 protected:
  double c_;
};

struct Ucb1Range : PlainRule {
  using PlainRule::PlainRule;
  double index(const ArmView& arm) const {
    return arm.mean + c_ * std::sqrt(2.0 * arm.log_t / arm.count);
  }
};

struct UcbV : PlainRule {
  using PlainRule::PlainRule;
  double index(const ArmView& arm) const {
    const double rate = arm.log_t / arm.count;
    return arm.mean + c_ * (std::sqrt(2.0 * arm.variance * rate) + 3.0 * rate);
  }
};

struct UcbTuned : PlainRule {
  using PlainRule::PlainRule;
  double index(const ArmView& arm) const {
    const double rate = arm.log_t / arm.count;
    const double variance_bound = std::min(0.25, arm.variance + std::sqrt(2.0 * rate));
    return arm.mean + c_ * std::sqrt(rate * variance_bound);
  }
};

double kl_bernoulli(double p, double q) {
  const double head = p > 0.0 ? p * std::log(p / q) : 0.0;
  const double tail = p < 1.0 ? (1.0 - p) * std::log((1.0 - p) / (1.0 - q)) : 0.0;
  return head + tail;
}

struct KlUcb : PlainRule {
  using PlainRule::PlainRule;
  double index(const ArmView& arm) const {
    return kl_upper_bound(arm.mean, arm.count, c_ * arm.log_t);
  }
  // One look at the divergence instead of a search; Pinsker's inequality spares even that.
  bool surely_below(const ArmView& arm, double index) const {
    constexpr double kSearchError = 1e-9;
    const double apart = index - kSearchError - arm.mean;
    if (apart <= 0.0) return false;
    const double divergence = c_ * arm.log_t / arm.count;
    return 2.0 * apart * apart >= divergence ||
           kl_bernoulli(arm.mean, arm.mean + apart) >= divergence;
  }
};

struct BayesUcb : PlainRule {
  using PlainRule::PlainRule;
  double index(const ArmView& arm) const {
    // 1 - 1/t, and no less than the median at the start.
    const double z = normal_quantile(1.0 - std::exp(-std::max(arm.log_t, std::numbers::ln2)));
    const double variance = (arm.count * arm.variance + 0.25) / (arm.count + 1.0);
    return arm.mean + c_ * z * std::sqrt(variance / arm.count);
  }
};

class Thompson {
 public:
  explicit Thompson(const PolicyOptions& options) : c_(options.exploration), rng_(options.seed) {}
  double index(const ArmView& arm) {
    const double p = (rng_.uniform() + 0x1p-54) / (1.0 + 0x1p-53);  // inside (0, 1)
    return arm.mean + 0.5 * c_ / std::sqrt(arm.count + 1.0) * normal_quantile(p);
  }
  void archive(StateArchive& archive) { archive.rng(rng_); }

 private:
  double c_;
  Rng rng_;
};

template <class Rule>
std::unique_ptr<Policy> make_index(std::string_view name, const PolicyOptions& options) {
  return std::make_unique<ArmBandit<IndexLearner<Rule>>>(name, options);
}

}  // namespace

// Newton's method on a convex increasing function, from a point on the right of the root: Pinsker's
// inequality, kl(m, q) >= 2 (q - m)^2, gives one. It comes down to the root from above.
double kl_upper_bound(double mean, double count, double level) {
  constexpr int kMostSteps = 20;
  constexpr double kLargest = 1.0 - 1e-9, kSmallest = 1e-9, kClose = 1e-10;
  if (mean >= kLargest || level <= 0.0) return mean;
  double q = std::min(std::max(mean, kSmallest) + std::sqrt(level / (2.0 * count)), kLargest);
  for (int step = 0; step < kMostSteps; ++step) {
    const double excess = count * kl_bernoulli(mean, q) - level;
    const double slope = count * (q - mean) / (q * (1.0 - q));
    const double change = excess / slope;
    if (excess <= 0.0 || change < kClose) break;
    q -= change;
  }
  return q;
}

double normal_quantile(double p) {
  // P. J. Acklam, "An algorithm for computing the inverse normal cumulative distribution function",
  // 2003: two rational functions, for the middle and for the tails.
  constexpr double kTail = 0.02425;
  if (p > 1.0 - kTail) return -normal_quantile(1.0 - p);
  if (p < kTail) {
    const double q = std::sqrt(-2.0 * std::log(p));
    const double top =
        ((((-7.784894002430293e-03 * q - 3.223964580411365e-01) * q - 2.400758277161838e+00) * q -
          2.549732539343734e+00) *
             q +
         4.374664141464968e+00) *
            q +
        2.938163982698783e+00;
    const double bottom =
        (((7.784695709041462e-03 * q + 3.224671290700398e-01) * q + 2.445134137142996e+00) * q +
         3.754408661907416e+00) *
            q +
        1.0;
    return top / bottom;
  }
  const double q = p - 0.5, r = q * q;
  const double top =
      (((((-3.969683028665376e+01 * r + 2.209460984245205e+02) * r - 2.759285104469687e+02) * r +
         1.383577518672690e+02) *
            r -
        3.066479806614716e+01) *
           r +
       2.506628277459239e+00) *
      q;
  const double bottom =
      ((((-5.447609879822406e+01 * r + 1.615858368580409e+02) * r - 1.556989798598866e+02) * r +
        6.680131188771972e+01) *
           r -
       1.328068155288572e+01) *
          r +
      1.0;
  return top / bottom;
}

std::unique_ptr<Policy> make_ucb1_range(const PolicyOptions& options) {
  return make_index<Ucb1Range>("ucb1-range", options);
}
std::unique_ptr<Policy> make_ucb_v(const PolicyOptions& options) {
  return make_index<UcbV>("ucb-v", options);
}
std::unique_ptr<Policy> make_ucb_tuned(const PolicyOptions& options) {
  return make_index<UcbTuned>("ucb-tuned", options);
}
std::unique_ptr<Policy> make_kl_ucb(const PolicyOptions& options) {
  return make_index<KlUcb>("kl-ucb", options);
}
std::unique_ptr<Policy> make_bayes_ucb(const PolicyOptions& options) {
  return make_index<BayesUcb>("bayes-ucb", options);
}
std::unique_ptr<Policy> make_thompson(const PolicyOptions& options) {
  return make_index<Thompson>("thompson", options);
}

}  // namespace splitee::policy
