// Order statistics of repeated measurements.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

namespace splitee::bench {

// The value below which `share` (0 to 1) of the values lie, interpolated. At least one value.
inline double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const double position = share * static_cast<double>(values.size() - 1);
  const auto low = static_cast<std::size_t>(position);
  const std::size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (position - std::floor(position)) * (values[high] - values[low]);
}

inline double median(const std::vector<double>& values) {
  return quantile(values, 0.5);
}

}  // namespace splitee::bench
