#include "policy/learners/adaptive.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "policy/learners/moments.h"
#include "policy/learners/policy_base.h"

namespace splitee::policy {
namespace {

constexpr double kSharedWeight = 4.0;  // observations that the other arms' C_L count for
constexpr double kBonus = 0.5;
constexpr double kLooks = 300.0;
constexpr double kLookEvery = 8.0;  // samples
constexpr double kUnknown = std::numeric_limits<double>::infinity();

// What is known of one exit. The first one's difference is to an exit that is never sure.
struct Exit {
  double seen = 0;
  double ups = 0;    // sure, less the samples at which the exit before was sure
  double flips = 0;  // one of the two sure, the other not
  Moments sure;      // C_j where sure
  Moments answer;    // C_L where not sure, from samples that reveal it in any case

  // Of the mean difference to the exit before.
  double difference_variance() const {
    if (seen == 0.0) return kUnknown;
    const double mean = ups / seen;
    return std::max(0.0, (flips + 1.0) / (seen + 2.0) - mean * mean) / seen;
  }
  void archive(StateArchive& archive) {
    archive.count(seen);
    archive.number(ups);
    archive.count(flips);
    sure.archive(archive);
    answer.archive(archive);
    archive.require(std::abs(ups) <= flips && flips <= seen && ups == std::trunc(ups));
  }
};

// An arm's expected reward under the costs of now.
struct Worth {
  double sure = 0;   // p_j
  double mean = 0;   // r_j
  double apart = 0;  // reward of an exit less that of a miss
};

class Adaptive final : public PolicyBase {
 public:
  explicit Adaptive(const PolicyOptions& options)
      : PolicyBase("adaptive", options),
        exits_(options.arms()),
        worth_(options.arms()),
        largest_exit_variance_(kLargestVariance * (1.0 - options.alpha) * (1.0 - options.alpha)) {}

 private:
  Plan choose(LinkState link) override {
    const double log_t = std::log(rounds_ + 1.0);
    const std::size_t seen = estimate(link);
    std::size_t best = 0;
    for (std::size_t arm = 1; arm < seen; ++arm) {
      if (worth_[arm].mean > worth_[best].mean) best = arm;
    }
    const bool may_send = options_.at_once_arm && link == LinkState::kUp;
    const bool at_once_best = may_send && (seen == 0 || at_once_mean() >= worth_[best].mean);
    const Choice choice = best_arm(seen == 0 || at_once_best ? 0 : best + 1, log_t);
    if (may_send && at_once_index(log_t) > choice.index) return {.arm = kOffloadAtOnce};
    return {.arm = choice.arm, .every_exit = looks(choice.arm)};
  }

  Action decide(const Plan& plan, std::size_t arm, const ExitReading& reading) override {
    const Action action = PolicyBase::decide(plan, arm, reading);
    return action == Action::kOffload && stays_here(arm) ? Action::kContinue : action;
  }

  struct Choice {
    std::size_t arm;
    double index;
  };

  // The arm of the largest index, where the difference to the arm before `untaught` and those
  // before it is learned anyway.
  Choice best_arm(std::size_t untaught, double log_t) const {
    Choice best{0, -kUnknown};
    double variance = 0.0;
    for (std::size_t arm = 0; arm < options_.arms(); ++arm) {
      // Ceilings fall with depth.
      if (ceiling(arm) <= best.index) break;
      if (arm >= untaught) variance += exits_[arm].difference_variance();
      const double candidate = index(arm, variance, log_t);
      if (candidate > best.index) best = {arm, candidate};
    }
    return best;
  }

  // Whether to read the exits before the arm's too.
  bool looks(std::size_t arm) const {
    if (arm == 0 || costs().lambda2 == 0.0 || exits_[arm].seen < kLooks) return true;
    return std::fmod(rounds_, kLookEvery) == 0.0;
  }

  double index(std::size_t arm, double variance, double log_t) const {
    const Exit& exit = exits_[arm];
    if (exit.seen == 0.0) return ceiling(arm);
    const Worth& worth = worth_[arm];
    if (arm == options_.last_arm()) return std::min(ceiling(arm), worth.mean + answer_bonus(log_t));
    const double unsure = 1.0 - worth.sure;
    const double answers = unsure * unsure * all_answers_.careful_variance(kLargestVariance) /
                           (exit.answer.count + kSharedWeight);
    const double exits =
        variance > 0.0
            ? worth.apart * worth.apart * variance +
                  worth.sure * exit.sure.careful_variance(largest_exit_variance_) / exit.seen
            : 0.0;
    return std::min(ceiling(arm), worth.mean + bonus(log_t, exits + answers));
  }

  // Fills worth_ for the arms seen; their number. An arm seen has seen all before it.
  std::size_t estimate(LinkState link) {
    double sum = 0.0;
    std::size_t arm = 0;
    for (; arm < options_.arms() && exits_[arm].seen > 0.0; ++arm) {
      sum += exits_[arm].ups / exits_[arm].seen;
      worth_[arm] = worth(arm, std::clamp(sum, 0.0, 1.0), link);
    }
    return arm;
  }

  Worth worth(std::size_t arm, double sure, LinkState link) const {
    const Exit& exit = exits_[arm];
    const double cost = costs().mu * gamma(arm);
    if (arm == options_.last_arm()) return {1.0, any_answer_.mean_or(1.0) - cost, 0.0};
    const double answer = (exit.answer.sum + kSharedWeight * all_answers_.mean_or(1.0)) /
                          (exit.answer.count + kSharedWeight);
    const double hit = exit.sure.mean_or(1.0) - cost;
    const double miss = answer - costs().mu * miss_cost(arm, link);
    return {sure, sure * hit + (1.0 - sure) * miss, hit - miss};
  }

  double at_once_mean() const {
    const double cost = costs().offload_from(0) + lost() * costs().cost(layers(), 1, false);
    return any_answer_.mean_or(1.0) - costs().mu * cost;
  }
  double at_once_index(double log_t) const { return at_once_mean() + answer_bonus(log_t); }

  // For the mean of C_L over all samples.
  double answer_bonus(double log_t) const {
    if (any_answer_.count == 0.0) return 0.0;
    return bonus(log_t, any_answer_.careful_variance(kLargestVariance) / any_answer_.count);
  }

  double bonus(double log_t, double variance) const {
    return options_.exploration * kBonus * std::sqrt(log_t * variance);
  }
  // No reward of the arm is higher.
  double ceiling(std::size_t arm) const { return 1.0 - costs().mu * gamma(arm); }
  // Cost of a sample that does not exit at the arm.
  double miss_cost(std::size_t arm, LinkState link) const {
    return link != LinkState::kUp || stays_here(arm) ? local_cost() : sent_cost(arm);
  }
  bool stays_here(std::size_t arm) const { return local_cost() < sent_cost(arm); }
  double sent_cost(std::size_t arm) const {
    return costs().offload_from(options_.layer_of[arm]) + (1.0 - lost()) * gamma(arm) +
           lost() * local_cost();
  }
  // Exits read on the way are not counted: in the long run there are hardly any.
  double gamma(std::size_t arm) const { return costs().cost(options_.layer_of[arm], 1, false); }
  double local_cost() const { return costs().cost(layers(), 2, false); }
  std::size_t layers() const { return options_.layer_of.back(); }
  double lost() const { return lost_ / (sent_ + 1.0); }

  void learn(const Outcome& outcome) override {
    const std::size_t split = outcome.plan.arm;
    if (split == kOffloadAtOnce) {
      rounds_ += 1.0;
      any_answer_.add(static_cast<double>(outcome.answer_confidence));
      return learn_sent(outcome);
    }
    if (split >= options_.arms()) return;
    rounds_ += 1.0;
    if (outcome.plan.every_exit) {
      learn_exits(outcome, split);
    } else {
      learn_confidence(split, outcome.confidence[split]);
    }
    learn_answer(outcome, split);
  }

  void learn_exits(const Outcome& outcome, std::size_t split) {
    bool sure_before = false;
    for (std::size_t arm = 0; arm <= split; ++arm) {
      const bool sure = is_sure(outcome.confidence[arm]);
      Exit& exit = exits_[arm];
      exit.seen += 1.0;
      exit.ups += (sure ? 1.0 : 0.0) - (sure_before ? 1.0 : 0.0);
      exit.flips += sure != sure_before ? 1.0 : 0.0;
      learn_confidence(arm, outcome.confidence[arm]);
      sure_before = sure;
    }
  }

  void learn_confidence(std::size_t arm, float confidence) {
    if (!is_sure(confidence)) return;
    exits_[arm].sure.add(static_cast<double>(confidence));
  }

  void learn_answer(const Outcome& outcome, std::size_t split) {
    if (outcome.route == Route::kExit) return;
    const auto answer = static_cast<double>(outcome.answer_confidence);
    if (split != options_.last_arm()) {
      add_answer(split, answer);
      return learn_sent(outcome);
    }
    any_answer_.add(answer);
    for (std::size_t arm = 0; outcome.plan.every_exit && arm < split; ++arm) {
      if (!is_sure(outcome.confidence[arm])) add_answer(arm, answer);
    }
  }

  void add_answer(std::size_t arm, double confidence) {
    exits_[arm].answer.add(confidence);
    all_answers_.add(confidence);
  }

  void learn_sent(const Outcome& outcome) {
    if (outcome.route == Route::kFinal) return;
    sent_ += 1.0;
    lost_ += outcome.route == Route::kFallback ? 1.0 : 0.0;
  }

  bool keeps_rewards() const override { return false; }
  void archive(StateArchive& archive) override {
    for (Exit& exit : exits_) exit.archive(archive);
    all_answers_.archive(archive);
    any_answer_.archive(archive);
    archive.count(rounds_);
    archive.count(sent_);
    archive.count(lost_);
    archive.require(counts_fit());
  }
  // What learn() keeps true, and estimate() and best_arm() build on.
  bool counts_fit() const {
    double seen = rounds_, answers = 0.0;
    for (const Exit& exit : exits_) {
      if (exit.seen > seen || exit.sure.count > rounds_) return false;
      seen = exit.seen;
      answers += exit.answer.count;
    }
    return answers == all_answers_.count && any_answer_.count <= rounds_ && lost_ <= sent_ &&
           sent_ <= rounds_;
  }

  std::vector<Exit> exits_;
  std::vector<Worth> worth_;  // under the costs of now
  Moments all_answers_;       // C_L of the answers of all arms
  Moments any_answer_;        // C_L of samples sent at once or split at the last layer
  double largest_exit_variance_;
  double rounds_ = 0, sent_ = 0, lost_ = 0;
};

}  // namespace

std::unique_ptr<Policy> make_adaptive(const PolicyOptions& options) {
  return std::make_unique<Adaptive>(options);
}

}  // namespace splitee::policy
