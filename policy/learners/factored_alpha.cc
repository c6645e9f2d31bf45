#include "policy/learners/factored_alpha.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "policy/learners/factored_base.h"
#include "policy/learners/moments.h"

namespace splitee::policy {
namespace {

constexpr std::size_t kBins = 8;  // stretches from an exit's floor to 1; stretch 0 is below it

class FactoredAlpha final : public FactoredBase {
 public:
  explicit FactoredAlpha(const PolicyOptions& options)
      : FactoredBase("factored-alpha", options),
        floor_(options.exit_alphas),
        arms_(options.arms()) {
    if (floor_.empty()) floor_.assign(options.arms(), options.alpha);
  }

 private:
  struct Stretch {
    Moments own;     // C_j of every sample with a split >= j
    Moments answer;  // C_L where revealed whatever it is
  };
  using Arm = std::array<Stretch, kBins + 1>;

  Action decide(const Plan& plan, std::size_t arm, const ExitReading& reading) override {
    if (arm < plan.arm) return Action::kContinue;
    if (arm == options_.last_arm() || exits(plan.link, arm, reading.confidence)) {
      return Action::kExit;
    }
    return plan.link == LinkState::kUp ? Action::kOffload : Action::kContinue;
  }

  // False for NaN.
  bool exits(LinkState link, std::size_t arm, float confidence) const {
    if (!(confidence >= static_cast<float>(floor_[arm]))) return false;
    const auto own = static_cast<double>(confidence);
    const double saved = costs().mu * (miss_cost(arm, link) - gamma(arm));
    if (own >= 1.0 - saved) return true;
    const Moments& seen = arms_[arm][stretch_of(arm, confidence)].answer;
    const double weight = seen.count + kSharedWeight;
    const double bonus = options_.exploration * kBonus *
                         std::sqrt(std::log(rounds_ + 1.0) *
                                   all_answers_.careful_variance(kLargestVariance) / weight);
    return own >= std::min(1.0, expected_answer(seen) + bonus) - saved;
  }

  std::size_t stretch_of(std::size_t arm, float confidence) const {
    if (!(confidence >= static_cast<float>(floor_[arm]))) return 0;
    const double part = (static_cast<double>(confidence) - floor_[arm]) / (1.0 - floor_[arm]);
    if (!(part > 0.0)) return 1;  // the floor itself, and 0 / 0 for a floor of 1
    return 1 + std::min(static_cast<std::size_t>(part * kBins), kBins - 1);
  }

  double expected_answer(const Moments& answer) const {
    return (answer.sum + kSharedWeight * all_answers_.mean_or(1.0)) /
           (answer.count + kSharedWeight);
  }

  double index(std::size_t arm, LinkState link, double log_t) const override {
    const double exit_cost = costs().mu * gamma(arm);
    const double miss = costs().mu * miss_cost(arm, link);
    const double answer_variance = all_answers_.careful_variance(kLargestVariance);
    double seen = 0, reward = 0, squares = 0, rest = 0;
    for (std::size_t i = 0; i <= kBins; ++i) {
      const Stretch& stretch = arms_[arm][i];
      const double count = stretch.own.count;
      if (count == 0.0) continue;
      seen += count;
      const double offloaded = expected_answer(stretch.answer) - miss;
      const double exited = stretch.own.sum / count - exit_cost;
      const bool last = arm == options_.last_arm();
      if (last || (i > 0 && exited >= offloaded)) {
        reward += count * exited;
        squares +=
            stretch.own.squares - 2.0 * exit_cost * stretch.own.sum + count * exit_cost * exit_cost;
      } else {
        reward += count * offloaded;
        squares += count * offloaded * offloaded;
        rest += count * count * answer_variance / (stretch.answer.count + kSharedWeight);
      }
    }
    if (seen == 0.0) return ceiling(arm);
    const double mean = reward / seen;
    const double scatter = std::max(0.0, squares - reward * mean);
    const double apart = 1.0 - options_.alpha + miss - exit_cost;  // about what actions differ by
    const double side = (scatter + kLargestVariance * apart * apart) / (seen + 1.0);
    const double variance = side / seen + rest / (seen * seen);
    return std::min(ceiling(arm),
                    mean + options_.exploration * kBonus * std::sqrt(log_t * variance));
  }

  void learn(const Outcome& outcome) override {
    const std::size_t split = outcome.plan.arm;
    if (!outcome.plan.every_exit || split >= options_.arms()) return;
    rounds_ += 1.0;
    for (std::size_t arm = 0; arm <= split; ++arm) {
      const float confidence = outcome.confidence[arm];
      arms_[arm][stretch_of(arm, confidence)].own.add(static_cast<double>(confidence));
    }
    if (outcome.route == Route::kExit) return;
    const auto answer = static_cast<double>(outcome.answer_confidence);
    all_answers_.add(answer);
    const std::size_t first = split == options_.last_arm() ? 0 : split;
    const std::size_t end = split == options_.last_arm() ? split : split + 1;
    for (std::size_t arm = first; arm < end; ++arm) {
      arms_[arm][stretch_of(arm, outcome.confidence[arm])].answer.add(answer);
    }
    count_sent(outcome);
  }

  void archive(StateArchive& archive) override {
    for (Arm& arm : arms_) {
      for (Stretch& stretch : arm) {
        stretch.own.archive(archive);
        stretch.answer.archive(archive);
        archive.require(stretch.answer.count <= stretch.own.count);
      }
    }
    all_answers_.archive(archive);
    archive_counts(archive);
    for (const Arm& arm : arms_) {
      double seen = 0.0;
      for (const Stretch& stretch : arm) seen += stretch.own.count;
      archive.require(seen <= rounds_);
    }
    archive.require(all_answers_.count <= rounds_);
  }

  std::vector<double> floor_;
  std::vector<Arm> arms_;
  Moments all_answers_;
};

}  // namespace

std::unique_ptr<Policy> make_factored_alpha(const PolicyOptions& options) {
  return std::make_unique<FactoredAlpha>(options);
}

}  // namespace splitee::policy
