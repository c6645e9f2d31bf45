// A bound on how many answers differed from the last exit's, that holds at all times at once and
// for any stream: only the coins that pick audits are random.
//
// Answer i differs (d_i = 1) or does not (0); it is audited (A_i = 1) with a probability pi_i that
// was fixed before its coin was drawn. For 0 < lambda < pi_i the expectation of
// 1 - lambda A_i d_i / pi_i is 1 - lambda d_i <= exp(-lambda d_i), so that
//   M_t(lambda) = exp(lambda * sum d_i) * product of (1 - lambda A_i d_i / pi_i)
// is a non-negative supermartingale that starts at 1, and so is any mixture of them over lambda
// with fixed weights. By Ville's inequality the mixture stays below 1 / (1 - level) at all times
// with probability `level`; the largest sum d_i that this allows is the bound. A lambda of the
// mixture that is not below kLargestBet * pi_i is given up for good before that coin (its part
// becomes 0), so that audits may become rarer at any time.
// docs/decision.md has the proof in full, and what the bound does not say.
// Thread rule: plain values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "policy/state.h"

namespace splitee::policy {

class DisagreementBound {
 public:
  // One answer that was, or would have been, given before the last exit. `probability` in (0, 1] is
  // that of its audit; `differs` is looked at only if it was audited.
  void add(double probability, bool audited, bool differs);

  // Most answers that can have differed, with probability `level` (in (0, 1)) at all times.
  double upper(double level) const;
  std::uint64_t audited() const { return audited_; }
  // Audited ones that differed.
  std::uint64_t differing() const { return differing_; }

  void archive(StateArchive& archive);

 private:
  static constexpr std::size_t kBets = 14;
  static double bet(std::size_t i);  // lambda

  std::array<double, kBets> log_wealth_{};  // of the product, per lambda; kGivenUp where given up
  std::uint64_t answers_ = 0, audited_ = 0, differing_ = 0;
};

}  // namespace splitee::policy
