#include "policy/splitee.h"

#include <algorithm>
#include <cmath>

namespace splitee::policy {

namespace {

struct Leader {
  std::size_t arm;
  double index;

  void challenge(std::size_t other, double other_index) {
    arm = other_index > index ? other : arm;
    index = other_index > index ? other_index : index;
  }
};

}  // namespace

// Two halves side by side: the comparisons of one half are a chain that the other need not wait
// for.
std::size_t largest_index(std::span<const double> mean, std::span<const double> width,
                          double scale) {
  const std::size_t half = mean.size() / 2;
  const auto index = [&](std::size_t arm) { return mean[arm] + scale * width[arm]; };
  Leader low{0, index(0)};
  Leader high{half, index(half)};
  for (std::size_t step = 1; step < half; ++step) {
    low.challenge(step, index(step));
    high.challenge(half + step, index(half + step));
  }
  high.challenge(mean.size() - 1, index(mean.size() - 1));
  low.challenge(high.arm, high.index);
  return low.arm;
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

void Ucb1::restart() {
  rounds_ = 0;
  std::ranges::fill(sum_, 0.0);
  std::ranges::fill(count_, 0.0);
  first_pulls_ = FirstPulls();
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
