// SplitEE and SplitEE-S (arXiv 2309.09195, algorithms 1 and 2; splitee.h, splitee_s.h) and the
// other indices over arms (learners.h), each from the samples learned from so far.
#include "base/rng.h"
#include "tests/policy/reference.h"

namespace splitee::policy::reference {
namespace {

// The rewards observed of one arm, in order.
using Rewards = std::vector<double>;

double sum_of(const Rewards& rewards) {
  return std::accumulate(rewards.begin(), rewards.end(), 0.0);
}
double square_sum_of(const Rewards& rewards) {
  return std::inner_product(rewards.begin(), rewards.end(), rewards.begin(), 0.0);
}

class Bandit : public Reference {
 public:
  using Reference::Reference;
  std::string wrong_plan(const Plan& plan, LinkState) override {
    if (plan.every_exit != looks_at_all()) return "looks at other exits";
    const std::size_t untried = first_.next(counts());
    if (untried < arms()) return plan.arm == untried ? "" : "not the next arm without a sample";
    return wrong_choice(indices(), plan.arm, tolerance());
  }

 protected:
  virtual bool looks_at_all() const { return false; }
  virtual std::vector<double> counts() const = 0;
  virtual std::vector<Index> indices() = 0;
  double rounds() const { return static_cast<double>(history_.size()); }

  FirstPulls first_;
};

// Q_i / N_i + c sqrt(ln t / N_i); with side observations where they are known.
class Ucb1 final : public Bandit {
 public:
  Ucb1(const PolicyOptions& options, bool side) : Bandit(options), side_(side) {}

  std::vector<double> numbers() const override {
    const auto all = observed();
    std::vector<double> result;
    for (const Rewards& rewards : all) result.push_back(sum_of(rewards));
    for (const Rewards& rewards : all) result.push_back(static_cast<double>(rewards.size()));
    result.push_back(rounds());
    return result;
  }

 private:
  bool looks_at_all() const override { return side_; }
  std::vector<double> counts() const override {
    std::vector<double> result;
    for (const Rewards& rewards : observed()) result.push_back(static_cast<double>(rewards.size()));
    return result;
  }
  std::vector<Index> indices() override {
    std::vector<Index> result;
    for (const Rewards& rewards : observed()) {
      const auto n = static_cast<double>(rewards.size());
      const double bonus = options_.exploration * std::sqrt(std::log(rounds()) / n);
      result.push_back({sum_of(rewards) / n + bonus, rewards});
    }
    return result;
  }
  std::vector<Rewards> observed() const {
    std::vector<Rewards> result(arms());
    for (const Seen& seen : history_) {
      for (std::size_t arm = 0; side_ && arm < seen.plan.arm; ++arm)
        observe(seen, arm, result[arm]);
      result[seen.plan.arm].push_back(reward(seen));
    }
    return result;
  }
  // What an arm below the split would have got, where that is known: it would have exited; or
  // C_L is known, and it would have been sent from there, or run on.
  void observe(const Seen& seen, std::size_t arm, Rewards& rewards) const {
    const auto own = static_cast<double>(seen.confidence[arm]);
    const double here = gamma(seen.costs, layer(arm), arm + 1);
    const double whole = gamma(seen.costs, layers(), arm + 2);
    const double sending = offload(seen.costs, layer(arm));
    if (sure(seen.confidence[arm])) {
      rewards.push_back(own - seen.costs.mu * here);
    } else if (seen.route == Route::kOffload) {
      rewards.push_back(seen.answer - seen.costs.mu * (here + sending));
    } else if (seen.route == Route::kFallback) {
      rewards.push_back(seen.answer - seen.costs.mu * (whole + sending));
    } else if (seen.route == Route::kFinal) {
      // The split at the last exit says what an offload would have: with a link it is sent.
      const bool link = seen.plan.link == LinkState::kUp;
      rewards.push_back(seen.answer - seen.costs.mu * (link ? here + sending : whole));
    }
  }

  bool side_;
};

// The mixture of splitee_s.h: r_j = p_j E[reward | exit] + (1 - p_j) w_j.
class SplitEeS final : public Bandit {
 public:
  using Bandit::Bandit;

  std::vector<double> numbers() const override {
    std::vector<Arm> all;
    for (std::size_t arm = 0; arm < arms(); ++arm) all.push_back(at(arm, history_.size()));
    std::vector<double> result;
    const auto add = [&](auto number) {
      for (const Arm& arm : all) result.push_back(number(arm));
    };
    add([](const Arm& arm) { return arm.seen; });
    add([](const Arm& arm) { return static_cast<double>(arm.exits.size()); });
    add([](const Arm& arm) { return sum_of(arm.exits); });
    add([](const Arm& arm) { return static_cast<double>(arm.misses.size()); });
    add([](const Arm& arm) { return sum_of(arm.misses); });
    add([](const Arm& arm) { return square_sum_of(arm.misses); });
    result.push_back(scatter(history_.size()));
    result.push_back(misses(history_.size()));
    result.push_back(rounds());
    return result;
  }
  double tolerance() const override { return 1e-9 * scale() * scale(); }

 private:
  struct Arm {
    double seen = 0;
    Rewards exits, misses;
  };

  bool looks_at_all() const override { return true; }
  std::vector<double> counts() const override {
    std::vector<double> result;
    for (std::size_t arm = 0; arm < arms(); ++arm) result.push_back(at(arm, history_.size()).seen);
    return result;
  }

  // Of the first `until` samples.
  Arm at(std::size_t arm, std::size_t until) const {
    Arm result;
    for (std::size_t i = 0; i < until; ++i) {
      const Seen& seen = history_[i];
      if (seen.plan.arm < arm) continue;
      result.seen += 1.0;
      const auto own = static_cast<double>(seen.confidence[arm]);
      const double here = gamma(seen.costs, layer(arm), arm + 1);
      if (seen.plan.arm > arm && sure(seen.confidence[arm])) {
        result.exits.push_back(own - seen.costs.mu * here);
      } else if (seen.plan.arm == arm) {
        (seen.exit_arm == arm ? result.exits : result.misses).push_back(reward(seen));
      }
    }
    return result;
  }
  double misses(std::size_t until) const {
    double count = 0;
    for (std::size_t arm = 0; arm < arms(); ++arm) {
      count += static_cast<double>(at(arm, until).misses.size());
    }
    return count;
  }
  // Sum of squares around the arms' own means.
  double scatter(std::size_t until) const {
    double sum = 0;
    for (std::size_t arm = 0; arm < arms(); ++arm) {
      const Rewards misses = at(arm, until).misses;
      const double mean = sum_of(misses) / static_cast<double>(misses.size());
      for (const double value : misses) sum += (value - mean) * (value - mean);
    }
    return sum;
  }
  // s^2 and what stands in for w_j are those of the last sample that passed the arm.
  std::size_t last_passed(std::size_t arm) const {
    std::size_t until = 0;
    for (std::size_t i = 0; i < history_.size(); ++i) {
      if (history_[i].plan.arm >= arm) until = i + 1;
    }
    return until;
  }
  std::vector<Index> indices() override {
    std::vector<Index> result;
    for (std::size_t arm = 0; arm < arms(); ++arm) result.push_back({index(arm), {}});
    return result;
  }
  double index(std::size_t arm) const {
    const std::size_t until = last_passed(arm);
    const Arm seen = at(arm, until);
    const double missing = 1.0 - static_cast<double>(seen.exits.size()) / seen.seen;
    const CostModel& costs = history_[until - 1].costs;
    double w = 1.0 - costs.mu * gamma(costs, layer(arm), arm + 1), inverse = 1.0 / seen.seen;
    if (!seen.misses.empty()) {
      const auto m = static_cast<double>(seen.misses.size());
      w = sum_of(seen.misses) / m;
      const double variance = (scatter(until) + 4.0 * 0.25) / (misses(until) + 4.0);
      inverse += missing * missing * 4.0 * variance / m;
    }
    const double mean = sum_of(seen.exits) / seen.seen + missing * w;
    return mean + options_.exploration * std::sqrt(std::log(rounds()) * inverse);
  }
};

// Standard normal quantile, from the distribution function.
double quantile(double p) {
  double low = -40, high = 40;
  for (int i = 0; i < 200; ++i) {
    const double middle = 0.5 * (low + high);
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return low;
}

double divergence(double p, double q) {
  return (p > 0 ? p * std::log(p / q) : 0.0) + (p < 1 ? (1 - p) * std::log((1 - p) / (1 - q)) : 0);
}

// Indices on rewards scaled to [0, 1] by what the costs of the start allow.
class Scaled final : public Bandit {
 public:
  Scaled(std::string_view name, const PolicyOptions& options)
      : Bandit(options), name_(name), rng_(options.seed) {}

  std::vector<double> numbers() const override {
    const std::vector<Rewards> all = observed();
    std::vector<double> result;
    for (const Rewards& x : all) result.push_back(static_cast<double>(x.size()));
    for (const Rewards& x : all) result.push_back(sum_of(x));
    for (const Rewards& x : all) result.push_back(square_sum_of(x));
    result.push_back(rounds());
    return result;
  }
  double tolerance() const override { return 1e-7 * (1.0 + options_.exploration); }

 private:
  std::vector<double> counts() const override {
    std::vector<double> result;
    for (const Rewards& x : observed()) result.push_back(static_cast<double>(x.size()));
    return result;
  }
  double scaled(double reward) const {
    const CostModel& costs = options_.costs;
    const double highest = 1.0 - costs.mu * gamma(costs, options_.layer_of.front(), 1);
    double sending = 0;
    for (std::size_t arm = 0; arm < arms(); ++arm) {
      sending = std::max(sending, offload(costs, layer(arm)));
    }
    const double lowest = 0.0 - costs.mu * (gamma(costs, layers(), 2) + sending);
    if (!(highest > lowest)) return 0.0;  // costs so large that 1 is lost beside them
    return std::clamp((reward - lowest) / (highest - lowest), 0.0, 1.0);
  }
  std::vector<Rewards> unscaled() const {
    std::vector<Rewards> result(arms());
    for (const Seen& seen : history_) result[seen.plan.arm].push_back(reward(seen));
    return result;
  }
  std::vector<Rewards> observed() const {
    std::vector<Rewards> result = unscaled();
    for (Rewards& rewards : result) {
      for (double& value : rewards) value = scaled(value);
    }
    return result;
  }
  std::vector<Index> indices() override {
    std::vector<Index> result;
    const std::vector<Rewards> rewards = unscaled();
    for (const Rewards& x : observed()) {
      const auto n = static_cast<double>(x.size());
      const double m = sum_of(x) / n;
      double v = 0;
      for (const double value : x) v += (value - m) * (value - m) / n;
      result.push_back({index(m, v, n, std::log(rounds())), {}});
      // Equal when scaled may have been different before.
      if (name_ != "thompson") result.back().evidence = rewards[result.size() - 1];
    }
    return result;
  }
  double index(double m, double v, double n, double log_t) {
    const double c = options_.exploration, rate = log_t / n;
    if (name_ == "ucb1-range") return m + c * std::sqrt(2 * rate);
    if (name_ == "ucb-v") return m + c * (std::sqrt(2 * v * rate) + 3 * rate);
    if (name_ == "ucb-tuned") {
      return m + c * std::sqrt(rate * std::min(0.25, v + std::sqrt(2 * rate)));
    }
    if (name_ == "kl-ucb") return largest_q(m, c * rate);
    if (name_ == "bayes-ucb") {
      // 1 - 1/t, and no less than the median.
      const double z = quantile(std::max(0.5, 1 - 1 / rounds()));
      return m + c * z * std::sqrt((n * v + 0.25) / (n + 1) / n);
    }
    const double p = (rng_.uniform() + 0x1p-54) / (1.0 + 0x1p-53);
    return m + c * quantile(p) * std::sqrt(1 / (4 * (n + 1)));
  }
  static double largest_q(double m, double level) {
    double low = m, high = 1;
    for (int i = 0; i < 100; ++i) {
      const double middle = 0.5 * (low + high);
      (divergence(m, middle) <= level ? low : high) = middle;
    }
    return low;
  }

  std::string name_;
  Rng rng_;
};

// SplitEE's index over sums that forget.
class Forgetting final : public Bandit {
 public:
  Forgetting(const PolicyOptions& options, bool window) : Bandit(options), window_(window) {}

  std::string wrong_plan(const Plan& plan, LinkState link) override {
    if (!window_) return Bandit::wrong_plan(plan, link);
    const std::vector<double> n = counts();
    const std::size_t untried = static_cast<std::size_t>(std::ranges::find(n, 0.0) - n.begin());
    if (untried < arms()) return plan.arm == untried ? "" : "not the first arm without a sample";
    return wrong_choice(indices(), plan.arm, tolerance());
  }
  double tolerance() const override {
    double largest = scale();
    for (const double n : counts())
      largest = std::max(largest, options_.exploration / std::sqrt(n));
    return 1e-9 * largest;
  }

 private:
  // Weight of sample i now.
  double weight(std::size_t i) const {
    const std::size_t age = history_.size() - 1 - i;
    if (window_) return age < options_.window ? 1.0 : 0.0;
    return std::pow(options_.discount, static_cast<double>(age));
  }
  std::vector<double> counts() const override {
    std::vector<double> result(arms());
    for (std::size_t i = 0; i < history_.size(); ++i) result[history_[i].plan.arm] += weight(i);
    // Never all the way down.
    for (std::size_t i = 0; !window_ && i < history_.size(); ++i) {
      double& count = result[history_[i].plan.arm];
      count = std::max(count, 1e-100);
    }
    return result;
  }
  std::vector<Index> indices() override {
    std::vector<double> sums(arms()), n = counts();
    double t = 0;
    for (std::size_t i = 0; i < history_.size(); ++i) {
      sums[history_[i].plan.arm] += weight(i) * reward(history_[i]);
      t += weight(i);
    }
    std::vector<Index> result;
    for (std::size_t arm = 0; arm < arms(); ++arm) {
      const double bonus = options_.exploration * std::sqrt(std::log(std::max(t, 1.0)) / n[arm]);
      result.push_back({sums[arm] / n[arm] + bonus, {}});
    }
    return result;
  }

  bool window_;
};

// SplitEE that begins anew at an alarm of Page and Hinkley's test on any arm.
class Restarting final : public Bandit {
 public:
  using Bandit::Bandit;
  std::string wrong_plan(const Plan& plan, LinkState link) override {
    const std::size_t learned = history_.size();
    if (learned % 100 == 99) return plan.arm == learned / 100 % arms() ? "" : "not the arm in turn";
    if (begin() != began_) first_ = FirstPulls();
    began_ = begin();
    return Bandit::wrong_plan(plan, link);
  }

 private:
  // The sample that learning began with.
  std::size_t begin() const {
    std::size_t began = 0;
    for (std::size_t end = 1; end <= history_.size(); ++end) {
      if (alarm(began, end)) began = end;
    }
    return began;
  }
  // At the last of the samples from `begin` to `end`.
  bool alarm(std::size_t begin, std::size_t end) const {
    const std::size_t arm = history_[end - 1].plan.arm;
    double count = 0, mean = 0, rise = 0, fall = 0;
    for (std::size_t i = begin; i < end; ++i) {
      if (history_[i].plan.arm != arm) continue;
      const double x = reward(history_[i]);
      count += 1;
      mean += (x - mean) / count;
      if (count < 30) continue;
      rise = std::max(0.0, rise + x - mean - 0.05);
      fall = std::max(0.0, fall + mean - x - 0.05);
    }
    return std::max(rise, fall) > options_.change_threshold;
  }
  std::vector<Rewards> observed() const {
    std::vector<Rewards> result(arms());
    for (std::size_t i = begin(); i < history_.size(); ++i) {
      result[history_[i].plan.arm].push_back(reward(history_[i]));
    }
    return result;
  }
  std::vector<double> counts() const override {
    std::vector<double> result;
    for (const Rewards& rewards : observed()) result.push_back(static_cast<double>(rewards.size()));
    return result;
  }
  std::vector<Index> indices() override {
    const double log_t = std::log(static_cast<double>(history_.size() - begin()));
    std::vector<Index> result;
    for (const Rewards& rewards : observed()) {
      const auto n = static_cast<double>(rewards.size());
      result.push_back(
          {sum_of(rewards) / n + options_.exploration * std::sqrt(log_t / n), rewards});
    }
    return result;
  }

  std::size_t began_ = 0;
};

}  // namespace

std::unique_ptr<Reference> make_bandit(std::string_view name, const PolicyOptions& options) {
  if (name == "splitee") return std::make_unique<Ucb1>(options, false);
  if (name == "splitee-s-known") return std::make_unique<Ucb1>(options, true);
  if (name == "splitee-s") return std::make_unique<SplitEeS>(options);
  if (name == "discounted") return std::make_unique<Forgetting>(options, false);
  if (name == "window") return std::make_unique<Forgetting>(options, true);
  if (name == "restart") return std::make_unique<Restarting>(options);
  for (const std::string_view one :
       {"ucb1-range", "ucb-v", "ucb-tuned", "kl-ucb", "bayes-ucb", "thompson"}) {
    if (name == one) return std::make_unique<Scaled>(name, options);
  }
  return nullptr;
}

}  // namespace splitee::policy::reference
