#include "policy/splitee.h"

#include <cmath>

namespace splitee::policy {

std::size_t largest_index(std::span<const double> mean, std::span<const double> width,
                          double scale) {
  std::size_t best = 0;
  double best_index = mean[0] + scale * width[0];
  for (std::size_t arm = 1; arm < mean.size(); ++arm) {
    const double index = mean[arm] + scale * width[arm];
    best = index > best_index ? arm : best;
    best_index = index > best_index ? index : best_index;
  }
  return best;
}

Ucb1::Ucb1(const PolicyOptions& options)
    : exploration_(options.exploration),
      sum_(options.arms()),
      count_(options.arms()),
      mean_(options.arms()),
      width_(options.arms()) {}

std::size_t Ucb1::best() {
  const std::size_t untried = first_pulls_.next(count_);
  if (untried < count_.size()) return untried;
  return largest_index(mean_, width_, std::sqrt(std::log(rounds_)));
}

void Ucb1::update(std::size_t arm, double reward) {
  rounds_ += 1.0;
  add(arm, reward);
}

void Ucb1::add(std::size_t arm, double reward) {
  sum_[arm] += reward;
  count_[arm] += 1.0;
  mean_[arm] = sum_[arm] / count_[arm];
  width_[arm] = exploration_ / std::sqrt(count_[arm]);
}

void Ucb1::archive(StateArchive& archive) {
  archive.number(sum_);
  archive.non_negative(count_);
  archive.non_negative(rounds_);
  first_pulls_.archive(archive, count_.size());
  for (std::size_t arm = 0; arm < count_.size(); ++arm) {
    if (count_[arm] == 0.0) continue;
    mean_[arm] = sum_[arm] / count_[arm];
    width_[arm] = exploration_ / std::sqrt(count_[arm]);
  }
}

std::unique_ptr<Policy> make_splitee(const PolicyOptions& options) {
  return std::make_unique<ArmBandit<Ucb1>>("splitee", options);
}

}  // namespace splitee::policy
