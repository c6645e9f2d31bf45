#include "tools/common/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace splitee::tools {

namespace {

constexpr unsigned kBits = 7;  // 128 buckets per power of two
constexpr std::uint64_t kExact = std::uint64_t{1} << (kBits + 1);

// Values below kExact have a bucket each; above, the leading kBits + 1 bits choose it.
std::size_t bucket_of(std::uint64_t value) {
  if (value < kExact) return static_cast<std::size_t>(value);
  const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - (kBits + 1);
  return static_cast<std::size_t>((std::uint64_t{shift} << kBits) + (value >> shift));
}

// Middle of a bucket's values.
double value_of(std::size_t bucket) {
  if (bucket < kExact) return static_cast<double>(bucket);
  const std::size_t shift = (bucket >> kBits) - 1;
  const double low = static_cast<double>((bucket & ((1u << kBits) - 1)) + (1u << kBits));
  return (low + 0.5) * std::ldexp(1.0, static_cast<int>(shift));
}

}  // namespace

void LatencyHistogram::add(std::int64_t microseconds) {
  const std::size_t bucket =
      bucket_of(static_cast<std::uint64_t>(std::max<std::int64_t>(0, microseconds)));
  if (bucket >= counts_.size()) counts_.resize(bucket + 1);
  ++counts_[bucket];
  ++total_;
}

double LatencyHistogram::quantile(double q) const {
  const auto rank = std::max<std::uint64_t>(
      1, static_cast<std::uint64_t>(std::ceil(q * static_cast<double>(total_))));
  std::uint64_t seen = 0;
  for (std::size_t bucket = 0; bucket < counts_.size(); ++bucket) {
    seen += counts_[bucket];
    if (seen >= rank) return value_of(bucket);
  }
  return 0;
}

}  // namespace splitee::tools
