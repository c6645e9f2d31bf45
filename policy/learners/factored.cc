#include "policy/learners/factored.h"

#include <algorithm>
#include <cmath>

#include "policy/learners/factored_base.h"
#include "policy/learners/moments.h"

namespace splitee::policy {
namespace {

class Factored final : public FactoredBase {
 public:
  explicit Factored(const PolicyOptions& options)
      : FactoredBase("factored", options),
        seen_(options.arms()),
        exit_(options.arms()),
        answer_(options.arms()),
        largest_exit_variance_(kLargestVariance * (1.0 - options.alpha) * (1.0 - options.alpha)) {}

 private:
  double index(std::size_t arm, LinkState link, double log_t) const override {
    if (seen_[arm] == 0.0) return ceiling(arm);
    const double exit_cost = costs().mu * gamma(arm);
    const double answers = answer_[arm].count + kSharedWeight;
    const double answer = (answer_[arm].sum + kSharedWeight * all_answers_.mean_or(1.0)) / answers;
    const double exit_reward = exit_[arm].mean_or(1.0) - exit_cost;
    const double miss_reward = answer - costs().mu * miss_cost(arm, link);
    const double sure = exit_[arm].count / seen_[arm];
    const double mean = sure * exit_reward + (1.0 - sure) * miss_reward;

    const double side = side_variance(arm, exit_reward - miss_reward) / seen_[arm];
    const double unsure = 1.0 - sure;
    const double rest = unsure * unsure * all_answers_.careful_variance(kLargestVariance) / answers;
    const double bonus = options_.exploration * kBonus * std::sqrt(log_t * (side + rest));
    return std::min(ceiling(arm), mean + bonus);
  }

  // Of what one sample says about exit or not, and about the confidence of an exit.
  double side_variance(std::size_t arm, double apart) const {
    const double exits = exit_[arm].count;
    const double careful_sure = (exits + 1.0) / (seen_[arm] + 2.0);
    return careful_sure * (1.0 - careful_sure) * apart * apart +
           exits / seen_[arm] * exit_[arm].careful_variance(largest_exit_variance_);
  }

  void learn(const Outcome& outcome) override {
    const std::size_t split = outcome.plan.arm;
    if (!outcome.plan.every_exit || split >= options_.arms()) return;
    rounds_ += 1.0;
    for (std::size_t arm = 0; arm <= split; ++arm) {
      seen_[arm] += 1.0;
      const float confidence = outcome.confidence[arm];
      if (is_sure(confidence) || arm == options_.last_arm()) {
        exit_[arm].add(static_cast<double>(confidence));
      }
    }
    learn_answer(outcome, split);
  }

  void learn_answer(const Outcome& outcome, std::size_t split) {
    if (outcome.route == Route::kExit) return;
    const auto answer = static_cast<double>(outcome.answer_confidence);
    if (split == options_.last_arm()) {
      for (std::size_t arm = 0; arm < split; ++arm) {
        if (!is_sure(outcome.confidence[arm])) add_answer(arm, answer);
      }
      return;
    }
    add_answer(split, answer);
    count_sent(outcome);
  }

  void add_answer(std::size_t arm, double confidence) {
    answer_[arm].add(confidence);
    all_answers_.add(confidence);
  }

  void archive(StateArchive& archive) override {
    archive.count(seen_);
    for (Moments& moments : exit_) moments.archive(archive);
    for (Moments& moments : answer_) moments.archive(archive);
    all_answers_.archive(archive);
    archive_counts(archive);
    double answers = 0.0;
    for (std::size_t arm = 0; arm < seen_.size(); ++arm) {
      archive.require(exit_[arm].count <= seen_[arm] && answer_[arm].count <= seen_[arm]);
      archive.require(seen_[arm] <= (arm == 0 ? rounds_ : seen_[arm - 1]));
      answers += answer_[arm].count;
    }
    archive.require(answers == all_answers_.count);
  }

  std::vector<double> seen_;
  std::vector<Moments> exit_;    // C_j where sure
  std::vector<Moments> answer_;  // C_L where not sure, from samples that reveal it in any case
  Moments all_answers_;
  double largest_exit_variance_;  // sure means between alpha and 1
};

}  // namespace

std::unique_ptr<Policy> make_factored(const PolicyOptions& options) {
  return std::make_unique<Factored>(options);
}

}  // namespace splitee::policy
