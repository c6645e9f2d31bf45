// SplitEE (arXiv 2309.09195, algorithm 1): UCB1 over splitting layers, index
//   Q_i / N_i + c * sqrt(ln t / N_i)
// Q_i: sum of the rewards seen on arm i, N_i: their number, t: samples learned from. Every arm is
// tried once first, and those first samples are paid for like all others. Ties: the lowest arm.
// Learned state: per arm f64 Q, per arm f64 N, f64 t, u64 next arm to try first.
#pragma once

#include <cmath>
#include <memory>
#include <vector>

#include "policy/learners/arm_bandit.h"

namespace splitee::policy {

class Ucb1 {
 public:
  explicit Ucb1(const PolicyOptions& options);
  std::size_t best();
  void update(std::size_t arm, double reward);  // one sample: t grows
  void add(std::size_t arm, double reward);     // a side observation: t stays
  void restart();                               // as newly made
  void archive(StateArchive& archive);

 private:
  double width_at(double count) const { return exploration_ / std::sqrt(count); }

  double exploration_;
  double rounds_ = 0;
  std::vector<double> sum_, count_;
  std::vector<double> mean_;        // sum_ / count_
  std::vector<double> width_;       // exploration_ / sqrt(count_)
  std::vector<double> next_width_;  // width_ one observation later: known before it is needed
  FirstPulls first_pulls_;
};

// Arm with the largest mean + scale * width; the lowest of equals.
std::size_t largest_index(std::span<const double> mean, std::span<const double> width,
                          double scale);

std::unique_ptr<Policy> make_splitee(const PolicyOptions& options);

}  // namespace splitee::policy
