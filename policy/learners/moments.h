// Number, mean and scatter of values in [0, 1]. Internal to policy/. Thread rule: plain values.
#pragma once

#include <algorithm>

#include "policy/state.h"

namespace splitee::policy {

inline constexpr double kLargestVariance = 0.25;  // of a value in [0, 1]

struct Moments {
  double count = 0, sum = 0, squares = 0;

  void add(double value) {
    count += 1.0;
    sum += value;
    squares += value * value;
  }
  double mean_or(double fallback) const { return count > 0.0 ? sum / count : fallback; }
  // Of one value, with one observation of the largest variance added: never 0 on little evidence.
  double careful_variance(double largest) const {
    const double scatter = count > 0.0 ? std::max(0.0, squares - sum * sum / count) : 0.0;
    return (scatter + largest) / (count + 1.0);
  }
  void archive(StateArchive& archive) {
    archive.count(count);
    archive.non_negative(sum);
    archive.non_negative(squares);
    // Rounding keeps this order: of values in [0, 1], no square is above its value, no value
    // above 1.
    archive.require(squares <= sum && sum <= count);
  }
};

}  // namespace splitee::policy
