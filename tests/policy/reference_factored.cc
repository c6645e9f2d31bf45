// The learners that learn what the network does and compute what it is worth under the costs of
// now: factored.h, factored_alpha.h and adaptive.h, from the samples learned from so far.
#include "tests/policy/reference.h"

namespace splitee::policy::reference {
namespace {

constexpr double kShared = 4.0;    // observations that the other arms' C_L count for
constexpr double kQuarter = 0.25;  // the largest variance of a value in [0, 1]
constexpr double kNever = std::numeric_limits<double>::infinity();

class Factoring : public Reference {
 public:
  using Reference::Reference;
  double tolerance() const override { return 1e-9 * scale() * (1.0 + options_.exploration); }

 protected:
  // C_L of a sample shows what arm j would have got unless it exited; whatever C_L is, it is shown
  // by those split at j that did not exit, and by those split at the last arm.
  bool shows(const Seen& seen, std::size_t arm) const {
    if (seen.route == Route::kExit || seen.plan.arm == kOffloadAtOnce) return false;
    return seen.plan.arm == arm ? arm != last() : seen.plan.arm == last();
  }
  virtual bool counts_as_sent(const Seen& seen) const {
    return seen.plan.arm != last() && seen.route != Route::kExit && seen.route != Route::kFinal;
  }
  // Share of offloads lost, with one more that was not.
  double lost() const {
    double sent = 1, lost = 0;
    for (const Seen& seen : history_) {
      if (!counts_as_sent(seen)) continue;
      sent += 1;
      lost += seen.route == Route::kFallback ? 1 : 0;
    }
    return lost / sent;
  }
  double log_t() const { return std::log(static_cast<double>(history_.size()) + 1.0); }
  void append_counts(std::vector<double>& numbers) const {
    double sent = 0, lost = 0;
    for (const Seen& seen : history_) {
      if (!counts_as_sent(seen)) continue;
      sent += 1;
      lost += seen.route == Route::kFallback ? 1 : 0;
    }
    numbers.insert(numbers.end(), {static_cast<double>(history_.size()), sent, lost});
  }
  double sent_cost(std::size_t arm, double here, double local) const {
    return offload(costs_, layer(arm)) + (1 - lost()) * here + lost() * local;
  }
};

// --- factored ---

class Factored : public Factoring {
 public:
  using Factoring::Factoring;
  std::string wrong_plan(const Plan& plan, LinkState link) override {
    if (!plan.every_exit) return "does not look at every exit";
    std::vector<Index> indices;
    for (std::size_t arm = 0; arm < arms(); ++arm) indices.push_back({index(arm, link), {}});
    return wrong_choice(indices, plan.arm, tolerance());
  }
  std::vector<double> numbers() const override {
    std::vector<double> result;
    for (std::size_t arm = 0; arm < arms(); ++arm) result.push_back(seen_at(arm));
    for (std::size_t arm = 0; arm < arms(); ++arm) exits(arm).append_to(result);
    for (std::size_t arm = 0; arm < arms(); ++arm) answers(arm).append_to(result);
    all_answers().append_to(result);
    append_counts(result);
    return result;
  }

 protected:
  double here(std::size_t arm) const { return gamma(costs_, layer(arm), arm + 1); }
  double ceiling(std::size_t arm) const { return 1.0 - costs_.mu * here(arm); }
  double miss_cost(std::size_t arm, LinkState link) const {
    const double local = gamma(costs_, layers(), arm + 2);
    return link == LinkState::kUp ? sent_cost(arm, here(arm), local) : local;
  }

  virtual double index(std::size_t arm, LinkState link) const {
    const double n = seen_at(arm);
    if (n == 0) return ceiling(arm);
    const Values a = exits(arm), b = answers(arm), all = all_answers();
    const double m = b.count() + kShared, p = a.count() / n, careful = (a.count() + 1) / (n + 2);
    const double exit = a.mean_or(1) - costs_.mu * here(arm);
    const double miss = (b.sum() + kShared * all.mean_or(1)) / m - costs_.mu * miss_cost(arm, link);
    const double largest = kQuarter * (1 - options_.alpha) * (1 - options_.alpha);
    const double v =
        (careful * (1 - careful) * (exit - miss) * (exit - miss) + p * a.variance(largest)) / n +
        (1 - p) * (1 - p) * all.variance(kQuarter) / m;
    return std::min(ceiling(arm), p * exit + (1 - p) * miss +
                                      options_.exploration * 0.8 * std::sqrt(log_t() * v));
  }

 private:
  double seen_at(std::size_t arm) const {
    double count = 0;
    for (const Seen& seen : history_) count += seen.plan.arm >= arm ? 1 : 0;
    return count;
  }
  Values exits(std::size_t arm) const {
    Values values;
    for (const Seen& seen : history_) {
      if (seen.plan.arm < arm) continue;
      const float confidence = seen.confidence[arm];
      if (sure(confidence) || arm == last()) values.all.push_back(static_cast<double>(confidence));
    }
    return values;
  }
  Values answers(std::size_t arm) const {
    Values values;
    for (const Seen& seen : history_) {
      if (shows(seen, arm) && !sure(seen.confidence[arm])) values.all.push_back(seen.answer);
    }
    return values;
  }
  // In the order in which they came.
  Values all_answers() const {
    Values values;
    for (const Seen& seen : history_) {
      for (std::size_t arm = 0; arm < last(); ++arm) {
        if (shows(seen, arm) && !sure(seen.confidence[arm])) values.all.push_back(seen.answer);
      }
    }
    return values;
  }
};

// --- factored-alpha ---

constexpr std::size_t kStretches = 8;

class FactoredAlpha final : public Factored {
 public:
  explicit FactoredAlpha(const PolicyOptions& options)
      : Factored(options), floor_(options.exit_alphas) {
    if (floor_.empty()) floor_.assign(arms(), options.alpha);
  }

  // Exit iff c >= the floor and c >= E[C_L | c] - mu (miss - gamma), with a bonus for what is
  // hardly known, which no confidence needs to exceed 1 for.
  unsigned allowed(const Plan& plan, std::size_t arm, const ExitReading& reading) override {
    if (arm < plan.arm) return kMayContinue;
    const unsigned on = plan.link == LinkState::kUp ? kMayOffload : kMayContinue;
    const float c = reading.confidence;
    if (arm == last()) return kMayExit;
    if (!(c >= static_cast<float>(floor_[arm]))) return on;
    const double saved = costs_.mu * (miss_cost(arm, plan.link) - here(arm));
    const Values seen = answers_in(arm, stretch(arm, c)), all = every_answer();
    const double m = seen.count() + kShared;
    const double bonus =
        options_.exploration * 0.8 * std::sqrt(log_t() * all.variance(kQuarter) / m);
    const double expected = (seen.sum() + kShared * all.mean_or(1)) / m;
    const double apart = static_cast<double>(c) - (std::min(1.0, expected + bonus) - saved);
    if (std::abs(apart) < tolerance()) return on | kMayExit;
    return apart > 0 ? kMayExit : on;
  }
  std::vector<double> numbers() const override {
    std::vector<double> result;
    for (std::size_t arm = 0; arm < arms(); ++arm) {
      for (std::size_t i = 0; i <= kStretches; ++i) {
        own_in(arm, i).append_to(result);
        answers_in(arm, i).append_to(result);
      }
    }
    every_answer().append_to(result);
    append_counts(result);
    return result;
  }

 private:
  bool counts_as_sent(const Seen& seen) const override {
    return seen.route == Route::kOffload || seen.route == Route::kFallback;
  }
  // 0: below the floor; else 1 to 8, from there to 1.
  std::size_t stretch(std::size_t arm, float confidence) const {
    if (!(confidence >= static_cast<float>(floor_[arm]))) return 0;
    const double above = static_cast<double>(confidence) - floor_[arm], width = 1 - floor_[arm];
    for (std::size_t i = 1; i < kStretches; ++i) {
      if (width <= 0 || above / width * kStretches < static_cast<double>(i)) return i;
    }
    return kStretches;
  }
  Values own_in(std::size_t arm, std::size_t which) const {
    Values values;
    for (const Seen& seen : history_) {
      if (seen.plan.arm < arm || stretch(arm, seen.confidence[arm]) != which) continue;
      values.all.push_back(static_cast<double>(seen.confidence[arm]));
    }
    return values;
  }
  Values answers_in(std::size_t arm, std::size_t which) const {
    Values values;
    for (const Seen& seen : history_) {
      if (!shows(seen, arm) || stretch(arm, seen.confidence[arm]) != which) continue;
      values.all.push_back(seen.answer);
    }
    return values;
  }
  Values every_answer() const {
    Values values;
    for (const Seen& seen : history_) {
      if (seen.route != Route::kExit) values.all.push_back(seen.answer);
    }
    return values;
  }

  double index(std::size_t arm, LinkState link) const override {
    const double exit_cost = costs_.mu * here(arm), miss = costs_.mu * miss_cost(arm, link);
    const Values all = every_answer();
    double n = 0, rest = 0;
    std::vector<double> rewards;  // of each sample, as its stretch's better action pays
    for (std::size_t i = 0; i <= kStretches; ++i) {
      const Values own = own_in(arm, i), answers = answers_in(arm, i);
      if (own.all.empty()) continue;
      const double m = answers.count() + kShared, count = own.count();
      const double sent = (answers.sum() + kShared * all.mean_or(1)) / m - miss;
      const bool exits = arm == last() || (i > 0 && own.mean_or(0) - exit_cost >= sent);
      for (const double c : own.all) rewards.push_back(exits ? c - exit_cost : sent);
      if (!exits) rest += count * count * all.variance(kQuarter) / m;
      n += count;
    }
    if (n == 0) return ceiling(arm);
    const double mean = std::accumulate(rewards.begin(), rewards.end(), 0.0) / n;
    const double apart = 1 - options_.alpha + miss - exit_cost;
    double scatter = kQuarter * apart * apart;
    for (const double reward : rewards) scatter += (reward - mean) * (reward - mean);
    const double v = scatter / (n + 1) / n + rest / (n * n);
    return std::min(ceiling(arm), mean + options_.exploration * 0.8 * std::sqrt(log_t() * v));
  }

  std::vector<double> floor_;
};

// --- adaptive ---

class Adaptive final : public Factoring {
 public:
  using Factoring::Factoring;

  std::string wrong_plan(const Plan& plan, LinkState link) override {
    const bool may_send = options_.at_once_arm && link == LinkState::kUp;
    const std::vector<Index> arms_only = indices(link, may_send);
    std::vector<Index> all = arms_only;
    all.push_back({may_send ? at_once_index() : -kNever, {}});
    const std::size_t chosen = plan.arm == kOffloadAtOnce ? arms() : plan.arm;
    if (std::string wrong = wrong_choice(all, chosen, tolerance()); !wrong.empty()) return wrong;
    if (chosen < arms() && plan.every_exit != looks(chosen)) return "looks at other exits";
    return "";
  }
  unsigned allowed(const Plan& plan, std::size_t arm, const ExitReading& reading) override {
    const unsigned actions = Factoring::allowed(plan, arm, reading);
    if (actions != kMayOffload) return actions;
    const double cheaper = sent(arm) - local();
    if (std::abs(cheaper) < 1e-12 * (sent(arm) + local())) return kMayOffload | kMayContinue;
    return cheaper > 0 ? kMayContinue : kMayOffload;
  }
  std::vector<double> numbers() const override {
    std::vector<double> result;
    for (std::size_t arm = 0; arm < arms(); ++arm) {
      const Differences d = differences(arm);
      result.insert(result.end(), {d.count, d.sum, d.apart});
      exits(arm).append_to(result);
      answers(arm).append_to(result);
    }
    all_answers().append_to(result);
    any_answer().append_to(result);
    append_counts(result);
    return result;
  }

 private:
  // d_i: sure at exit i less sure at the exit before, of the samples that passed both.
  struct Differences {
    double count = 0, sum = 0, apart = 0;
    double variance() const {
      if (count == 0) return kNever;
      return std::max(0.0, (apart + 1) / (count + 2) - sum / count * (sum / count)) / count;
    }
  };
  Differences differences(std::size_t arm) const {
    Differences d;
    for (const Seen& seen : history_) {
      if (!passed(seen, arm)) continue;
      const bool own = sure(seen.confidence[arm]);
      const bool before = arm > 0 && sure(seen.confidence[arm - 1]);
      d.count += 1;
      d.sum += (own ? 1 : 0) - (before ? 1 : 0);
      d.apart += own != before ? 1 : 0;
    }
    return d;
  }
  static bool passed(const Seen& seen, std::size_t arm) {
    return seen.plan.arm != kOffloadAtOnce && seen.plan.every_exit && seen.plan.arm >= arm;
  }
  Values exits(std::size_t arm) const {
    Values values;
    for (const Seen& seen : history_) {
      const bool read = passed(seen, arm) || seen.plan.arm == arm;
      if (!read || !sure(seen.confidence[arm])) continue;
      values.all.push_back(static_cast<double>(seen.confidence[arm]));
    }
    return values;
  }
  bool shows_unsure(const Seen& seen, std::size_t arm) const {
    if (!shows(seen, arm)) return false;
    return seen.plan.arm == arm || (seen.plan.every_exit && !sure(seen.confidence[arm]));
  }
  Values answers(std::size_t arm) const {
    Values values;
    for (const Seen& seen : history_) {
      if (shows_unsure(seen, arm)) values.all.push_back(seen.answer);
    }
    return values;
  }
  Values all_answers() const {
    Values values;
    for (const Seen& seen : history_) {
      for (std::size_t arm = 0; arm < last(); ++arm) {
        if (shows_unsure(seen, arm)) values.all.push_back(seen.answer);
      }
    }
    return values;
  }
  Values any_answer() const {
    Values values;
    for (const Seen& seen : history_) {
      if (seen.plan.arm == kOffloadAtOnce || seen.plan.arm == last()) {
        values.all.push_back(seen.answer);
      }
    }
    return values;
  }

  double local() const { return gamma(costs_, layers(), 2); }
  double here(std::size_t arm) const { return gamma(costs_, layer(arm), 1); }
  double sent(std::size_t arm) const { return sent_cost(arm, here(arm), local()); }
  double ceiling(std::size_t arm) const { return 1 - costs_.mu * here(arm); }
  double bonus(double variance) const {
    return options_.exploration * 0.5 * std::sqrt(log_t() * variance);
  }
  double answer_bonus() const {
    const Values any = any_answer();
    return any.all.empty() ? 0.0 : bonus(any.variance(kQuarter) / any.count());
  }
  double at_once_mean() const {
    const double cost = offload(costs_, 0) + lost() * gamma(costs_, layers(), 1);
    return any_answer().mean_or(1) - costs_.mu * cost;
  }
  double at_once_index() const { return at_once_mean() + answer_bonus(); }

  struct Worth {
    double sure = 0, mean = 0, apart = 0;
  };
  Worth worth(std::size_t arm, LinkState link) const {
    double p = 0;
    for (std::size_t i = 0; i <= arm; ++i) p += differences(i).sum / differences(i).count;
    p = std::clamp(p, 0.0, 1.0);
    if (arm == last()) return {1, any_answer().mean_or(1) - costs_.mu * here(arm), 0};
    const Values b = answers(arm);
    const double answer = (b.sum() + kShared * all_answers().mean_or(1)) / (b.count() + kShared);
    const double miss_cost = link == LinkState::kUp ? std::min(sent(arm), local()) : local();
    const double hit = exits(arm).mean_or(1) - costs_.mu * here(arm);
    const double miss = answer - costs_.mu * miss_cost;
    return {p, p * hit + (1 - p) * miss, hit - miss};
  }

  // Arms seen have seen all before them.
  std::size_t seen() const {
    std::size_t arm = 0;
    while (arm < arms() && differences(arm).count > 0) ++arm;
    return arm;
  }
  // Optimism about p only for what playing the best does not teach.
  std::vector<Index> indices(LinkState link, bool may_send) const {
    std::size_t best = 0;
    for (std::size_t arm = 1; arm < seen(); ++arm) {
      if (worth(arm, link).mean > worth(best, link).mean) best = arm;
    }
    const bool at_once = may_send && (seen() == 0 || at_once_mean() >= worth(best, link).mean);
    const std::size_t untaught = seen() == 0 || at_once ? 0 : best + 1;
    std::vector<Index> result;
    double variance = 0;
    for (std::size_t arm = 0; arm < arms(); ++arm) {
      if (arm >= untaught) variance += differences(arm).variance();
      result.push_back({index(arm, link, variance), {}});
    }
    return result;
  }
  double index(std::size_t arm, LinkState link, double difference) const {
    if (arm >= seen()) return ceiling(arm);
    const Worth w = worth(arm, link);
    if (arm == last()) return std::min(ceiling(arm), w.mean + answer_bonus());
    const double unsure = 1 - w.sure, n = differences(arm).count;
    double v =
        unsure * unsure * all_answers().variance(kQuarter) / (answers(arm).count() + kShared);
    const double largest = kQuarter * (1 - options_.alpha) * (1 - options_.alpha);
    if (difference > 0) {
      v += w.apart * w.apart * difference + w.sure * exits(arm).variance(largest) / n;
    }
    return std::min(ceiling(arm), w.mean + bonus(v));
  }

  // Exits before the split: until 300 samples have passed them all, then in every eighth sample.
  bool looks(std::size_t arm) const {
    if (arm == 0 || costs_.lambda2 == 0 || differences(arm).count < 300) return true;
    return history_.size() % 8 == 0;
  }
  bool counts_as_sent(const Seen& seen) const override {
    return (seen.plan.arm == kOffloadAtOnce || Factoring::counts_as_sent(seen)) &&
           seen.route != Route::kFinal;
  }
};

}  // namespace

std::unique_ptr<Reference> make_factored(std::string_view name, const PolicyOptions& options) {
  if (name == "factored") return std::make_unique<Factored>(options);
  if (name == "factored-alpha") return std::make_unique<FactoredAlpha>(options);
  if (name == "adaptive") return std::make_unique<Adaptive>(options);
  return nullptr;
}

}  // namespace splitee::policy::reference
