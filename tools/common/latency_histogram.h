// Quantiles of durations in constant memory: 128 buckets per power of two, so that a quantile is
// at most 1 % off.
// Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <vector>

namespace splitee::tools {

class LatencyHistogram {
 public:
  void add(std::int64_t microseconds);
  // Smallest value that a share `q` (0 to 1) of the samples does not exceed; 0 without samples.
  double quantile(double q) const;

 private:
  std::vector<std::uint64_t> counts_;
  std::uint64_t total_ = 0;
};

}  // namespace splitee::tools
