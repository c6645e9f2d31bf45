// How many answers differed from the last exit's, as a best guess beside the bound
// (disagreement_bound.h).
//
// Audited answers are counted. The others count what the model (disagreement_model.h) expected of
// them, times how far it was off on the audited ones:
//   differing + unseen * (1 + differing) / (1 + expected of audited).
// Every audit counts alike, whatever its probability: one with a rare coin that differs moves the
// sum by little, where weights of 1 / probability let it stand for thousands of answers.
// Bias: right on average if the model is off by the same factor for audited answers as for the
// others. Audits are more likely in doubt, so answers that differ although the model is sure of
// them are missed in part. The 1 on both sides pulls towards the model until audits have shown
// several that differ. Thread rule: plain values.
#pragma once

#include "policy/state.h"

namespace splitee::policy {

class DisagreementEstimate {
 public:
  // One answer that was, or would have been, given before the last exit. `expected`: probability
  // that it differs, by the model; `differs` is looked at only if it was audited.
  void add(double expected, bool audited, bool differs) {
    (audited ? expected_ : unseen_) += expected;
    differing_ += audited && differs ? 1.0 : 0.0;
  }
  // Answers; audited or not.
  double all() const { return differing_ + not_audited(); }
  double not_audited() const { return unseen_ * (1.0 + differing_) / (1.0 + expected_); }

  void archive(StateArchive& archive) {
    for (double* sum : {&differing_, &expected_, &unseen_}) archive.non_negative(*sum);
  }

 private:
  double differing_ = 0;              // audited ones
  double expected_ = 0, unseen_ = 0;  // by the model, of audited ones and of the others
};

}  // namespace splitee::policy
