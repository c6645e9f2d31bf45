#include "policy/learners/splitee.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace splitee::policy {

namespace {

using Pair = double __attribute__((vector_size(16)));  // what any target computes at once
constexpr std::size_t kMostAtOnce = 64;                // arms

Pair load(const double* from) {
  Pair pair;
  std::memcpy(&pair, from, sizeof(pair));
  return pair;
}

std::size_t largest_one_by_one(std::span<const double> mean, std::span<const double> width,
                               double scale) {
  std::size_t best = 0;
  double highest = mean[0] + scale * width[0];
  for (std::size_t arm = 1; arm < mean.size(); ++arm) {
    const double index = mean[arm] + scale * width[arm];
    if (index > highest) {
      best = arm;
      highest = index;
    }
  }
  return best;
}

}  // namespace

// The largest value first, two arms at a time; then where it is, which is mostly where it was the
// last time, so that the branches are foreseen.
std::size_t largest_index(std::span<const double> mean, std::span<const double> width,
                          double scale) {
  const std::size_t arms = mean.size();
  if (arms < 4 || arms > kMostAtOnce) return largest_one_by_one(mean, width, scale);
  double index[kMostAtOnce];
  const Pair scales = {scale, scale};
  const auto indices_at = [&](std::size_t arm) {
    const Pair pair = load(&mean[arm]) + scales * load(&width[arm]);
    std::memcpy(&index[arm], &pair, sizeof(pair));
    return pair;
  };
  Pair low = indices_at(arms - 2), high = low;  // an odd last arm is in here
  for (std::size_t arm = 0; arm + 2 < arms; arm += 4) {
    const Pair first = indices_at(arm), second = indices_at(std::min(arm + 2, arms - 2));
    low = first > low ? first : low;
    high = second > high ? second : high;
  }
  low = high > low ? high : low;
  const double highest = low[0] > low[1] ? low[0] : low[1];
  std::size_t best = 0;
  while (best + 1 < arms && index[best] != highest) ++best;
  return best;
}

Ucb1::Ucb1(const PolicyOptions& options)
    : exploration_(options.exploration),
      sum_(options.arms()),
      count_(options.arms()),
      mean_(options.arms()),
      width_(options.arms()),
      next_width_(options.arms(), width_at(1.0)) {}

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
  width_[arm] = next_width_[arm];
  next_width_[arm] = width_at(count_[arm] + 1.0);
}

void Ucb1::restart() {
  rounds_ = 0;
  std::ranges::fill(sum_, 0.0);
  std::ranges::fill(count_, 0.0);
  std::ranges::fill(next_width_, width_at(1.0));
  first_pulls_ = FirstPulls();
}

void Ucb1::archive(StateArchive& archive) {
  archive.number(sum_);
  archive.count(count_);
  archive.count(rounds_);
  first_pulls_.archive(archive, count_.size());
  for (std::size_t arm = 0; arm < count_.size(); ++arm) {
    // A sample adds at most one observation to an arm.
    archive.require(count_[arm] <= rounds_);
    archive.require(std::abs(sum_[arm]) <= count_[arm] * StateArchive::kMostReward);
    next_width_[arm] = width_at(count_[arm] + 1.0);
    if (count_[arm] == 0.0) continue;
    mean_[arm] = sum_[arm] / count_[arm];
    width_[arm] = width_at(count_[arm]);
  }
}

std::unique_ptr<Policy> make_splitee(const PolicyOptions& options) {
  return std::make_unique<ArmBandit<Ucb1>>("splitee", options);
}

}  // namespace splitee::policy
