// Adds up what a replay's runs did. Internal to policy/. Thread rule: one thread at a time.
#pragma once

#include <span>
#include <vector>

#include "policy/replay/replay_types.h"

namespace splitee::policy {

// What happened to one sample.
struct SampleRecord {
  std::size_t sample = 0;
  std::size_t arm = 0;
  Route route = Route::kFinal;
  std::size_t exit_arm = 0;
  bool correct = false;  // false where the label is not known
  bool differs = false;  // from the last exit, the answer given or, audited, replaced
  double reward = 0;
  double best_reward = 0;  // of the best arm, on the same sample
  double cost = 0;         // in lambda
};

class Recorder {
 public:
  Recorder(const Trace& trace, const ReplayOptions& options);

  void begin_run();
  void add(const SampleRecord& record) {
    correct_ += record.correct ? 1 : 0;
    offloads_ += record.route == Route::kOffload ? 1 : 0;
    differing_ += record.differs ? 1 : 0;
    audits_ += record.route == Route::kAudit ? 1 : 0;
    answered_[record.exit_arm] += record.route == Route::kOffload ? 0 : 1;
    cost_ += record.cost;
    regret_ += record.best_reward - record.reward;
    ++t_;
    if (t_ == next_point_) add_point();
    if (options_.on_decision) report(record);
  }
  // `upper`: the policy's bound on the disagreement, where it has one.
  void end_run(std::optional<double> upper = std::nullopt);

  // Everything but best_arm, mean_reward and rejected, which the caller sets.
  ReplayResult result(double final_cost) const;

 private:
  void add_point();
  void report(const SampleRecord& record) const;

  const Trace& trace_;
  const ReplayOptions& options_;
  const std::size_t exits_;
  std::size_t labelled_ = 0;
  std::vector<std::size_t> points_;
  std::vector<std::vector<double>> regrets_;  // (points, runs)
  std::vector<double> accuracies_, costs_, offload_rates_, disagreements_, uppers_;
  std::vector<std::uint64_t> answered_;
  std::uint64_t audits_ = 0;  // of all runs
  std::size_t runs_ = 0;
  // Of the run in progress.
  std::size_t t_ = 0, next_point_ = 0, point_ = 0;
  std::uint64_t correct_ = 0, offloads_ = 0, differing_ = 0;
  double cost_ = 0, regret_ = 0;
};

Estimate estimate(std::span<const double> values);

}  // namespace splitee::policy
