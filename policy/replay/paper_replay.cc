#include "policy/replay/paper_replay.h"

#include <algorithm>
#include <cmath>

namespace splitee::policy {
namespace {

enum class PaperPolicy { kSplitEe, kThreshold, kThresholdPublished };

// UCB1 as the scripts have it: sums, counts, ln(t + 1), t from 0.
class PaperUcb {
 public:
  PaperUcb(std::size_t arms, double exploration)
      : exploration_(exploration), sum_(arms), count_(arms), mean_(arms), index_(arms) {}

  void add(std::size_t arm, double reward) {
    sum_[arm] += reward;
    count_[arm] += 1.0;
    mean_[arm] = sum_[arm] / count_[arm];
  }
  std::size_t best(std::size_t rounds) {
    const double log_t = std::log(static_cast<double>(rounds));
    for (std::size_t arm = 0; arm < count_.size(); ++arm) {
      index_[arm] = mean_[arm] + exploration_ * std::sqrt(log_t / count_[arm]);
    }
    return static_cast<std::size_t>(std::ranges::max_element(index_) - index_.begin());
  }
  const std::vector<double>& sums() const { return sum_; }

 private:
  double exploration_;
  std::vector<double> sum_, count_, mean_, index_;
};

class PaperReplayer {
 public:
  PaperReplayer(const Trace& trace, const ReplayOptions& options, PaperPolicy policy)
      : trace_(trace),
        options_(options),
        policy_(policy),
        model_(trace, options),
        summed_reward_(trace.exits),
        mean_reward_(trace.exits) {
    for (std::size_t arm = 0; arm < trace.exits; ++arm) {
      for (std::size_t sample = 0; sample < trace.samples(); ++sample) {
        mean_reward_[arm] += model_.reward(sample, arm);
      }
      mean_reward_[arm] /= static_cast<double>(trace.samples());
    }
    best_arm_ = largest(mean_reward_);
  }

  ReplayResult replay() {
    Recorder recorder(trace_, options_);
    std::vector<std::uint32_t> order(trace_.samples());
    for (std::size_t run = 0; run < options_.runs; ++run) {
      fill_order(options_, run, order);
      recorder.begin_run();
      if (policy_ == PaperPolicy::kSplitEe) {
        run_bandit(order, recorder);
      } else {
        for (const std::uint32_t sample : order) record_threshold(sample, recorder);
      }
      recorder.end_run();
      if (options_.go_on && !options_.go_on(static_cast<double>(run + 1))) break;
    }
    ReplayResult result = recorder.result(static_cast<double>(trace_.exits));
    result.mean_reward = mean_reward_;
    result.best_arm = policy_ == PaperPolicy::kSplitEe ? largest(summed_reward_) : best_arm_;
    return result;
  }

 private:
  static std::size_t largest(const std::vector<double>& values) {
    return static_cast<std::size_t>(std::ranges::max_element(values) - values.begin());
  }

  void run_bandit(std::span<const std::uint32_t> order, Recorder& recorder) {
    const PaperDepartures& departures = options_.departures;
    PaperUcb ucb(trace_.exits, options_.policy_options.exploration);
    for (std::size_t arm = 0; departures.free_first_pulls && arm < trace_.exits; ++arm) {
      ucb.add(arm, model_.reward(order[arm], arm));
    }
    const std::size_t before = departures.free_first_pulls ? trace_.exits : 0;
    for (std::size_t t = 0; t < order.size(); ++t) {
      const std::size_t sample = order[t];
      const bool first_pull = before + t < trace_.exits;
      const std::size_t arm =
          first_pull ? t : ucb.best(departures.log_from_stream ? t + 1 : before + t);
      const bool here = model_.exits_at(sample, arm);
      for (std::size_t side = 0; model_.side_information() && side < arm; ++side) {
        const bool known = !here || arm == trace_.exits - 1 || model_.exits_at(sample, side);
        if (departures.peeks || known) ucb.add(side, model_.reward(sample, side));
      }
      const double reward = model_.reward(sample, arm);
      ucb.add(arm, reward);
      const bool final = arm == trace_.exits - 1;
      recorder.add(record(sample, arm, here ? arm : trace_.exits - 1,
                          final  ? Route::kFinal
                          : here ? Route::kExit
                                 : Route::kOffload,
                          reward, model_.cost(sample, arm)));
    }
    for (std::size_t arm = 0; arm < trace_.exits; ++arm) summed_reward_[arm] += ucb.sums()[arm];
  }

  void record_threshold(std::size_t sample, Recorder& recorder) const {
    const std::size_t last = trace_.exits - 1;
    std::size_t exit = 0;
    while (exit < last && !model_.exits_at(sample, exit)) ++exit;
    if (policy_ == PaperPolicy::kThresholdPublished) exit = std::min(exit + 1, last);
    recorder.add(record(sample, exit, exit, exit == last ? Route::kFinal : Route::kExit,
                        model_.answer_reward(sample, exit), static_cast<double>(exit + 1)));
  }

  SampleRecord record(std::size_t sample, std::size_t arm, std::size_t exit, Route route,
                      double reward, double cost) const {
    return {.sample = sample,
            .arm = arm,
            .route = route,
            .exit_arm = exit,
            .correct = trace_.label[sample] == trace_.prediction[sample * trace_.exits + exit],
            .reward = reward,
            .best_reward = model_.reward(sample, best_arm_),
            .cost = cost};
  }

  const Trace& trace_;
  const ReplayOptions& options_;
  PaperPolicy policy_;
  PaperModel model_;
  std::vector<double> summed_reward_, mean_reward_;
  std::size_t best_arm_ = 0;
};

}  // namespace

PaperModel::PaperModel(const Trace& trace, const ReplayOptions& options)
    : trace_(trace),
      last_(trace.exits - 1),
      alpha_(options.policy_options.alpha),
      side_information_(options.policy == "splitee-s"),
      reports_split_(!side_information_ && options.departures.reported_split) {
  const CostModel& costs = options.policy_options.costs;
  reward_lambda_ = costs.mu * costs.lambda();
  reward_offload_ = costs.mu * costs.offload;
  offload_in_lambda_ = costs.offload / costs.lambda();
}

Result<ReplayResult> replay_paper(const Trace& trace, const ReplayOptions& options) {
  PaperPolicy policy = PaperPolicy::kSplitEe;
  if (options.policy == "threshold") {
    policy = PaperPolicy::kThreshold;
  } else if (options.policy == "threshold-published") {
    policy = PaperPolicy::kThresholdPublished;
  } else if (options.policy != "splitee" && options.policy != "splitee-s") {
    return Status(Code::kInvalidArgument,
                  "policy '" + options.policy +
                      "' has no published form; paper semantics know splitee, splitee-s, "
                      "threshold and threshold-published");
  }
  if (trace.samples() < trace.exits) {
    return Status(Code::kInvalidArgument,
                  "paper semantics try every exit on a sample of its own first: the trace needs at "
                  "least " +
                      std::to_string(trace.exits) + " samples");
  }
  return PaperReplayer(trace, options, policy).replay();
}

}  // namespace splitee::policy
