// The semantics of the scripts published with arXiv 2309.09195, in double precision: see replay.h
// for what differs from a deployable policy. Internal to policy/.
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <span>

#include "policy/replay/replay_recorder.h"
#include "policy/replay/replay_types.h"

namespace splitee::policy {

// Rewards and costs as the scripts compute them, operation by operation: offloaded, the reward is
// (C_L - o) - lambda * i, rounded in that order. With mu other than 1, lambda and o in rewards are
// multiplied by it first.
class PaperModel {
 public:
  PaperModel(const Trace& trace, const ReplayOptions& options);

  bool exits_at(std::size_t sample, std::size_t arm) const {
    return arm == last_ || row(sample)[arm] >= alpha_;
  }
  double reward(std::size_t sample, std::size_t arm) const {
    if (exits_at(sample, arm)) return answer_reward(sample, arm);
    return row(sample)[last_] - reward_offload_ - reward_lambda_ * static_cast<double>(arm + 1);
  }
  // Of the answer of `exit`, whatever its confidence.
  double answer_reward(std::size_t sample, std::size_t exit) const {
    return row(sample)[exit] - reward_lambda_ * static_cast<double>(exit + 1);
  }
  // What the script reports, in lambda.
  double cost(std::size_t sample, std::size_t arm) const {
    const double sent = exits_at(sample, arm) ? 0.0 : offload_in_lambda_;
    return reports_split_ ? sent + 0.8 * static_cast<double>(arm) + 1.0
                          : sent + static_cast<double>(arm + 1);
  }
  bool side_information() const { return side_information_; }
  std::size_t arms() const { return last_ + 1; }

 private:
  const double* row(std::size_t sample) const { return &trace_.confidence[sample * (last_ + 1)]; }

  const Trace& trace_;
  std::size_t last_;
  double alpha_, reward_lambda_, reward_offload_, offload_in_lambda_;
  bool side_information_, reports_split_;
};

// Preconditions: as checked by replay(). Fails on a policy that has no published form, and on a
// trace with fewer samples than exits (the scripts need one for each first pull).
Result<ReplayResult> replay_paper(const Trace& trace, const ReplayOptions& options);

}  // namespace splitee::policy
