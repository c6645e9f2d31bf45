// Streams with known properties, for the tests of policy/.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "policy/policy.h"
#include "policy/rng.h"
#include "policy/trace.h"

namespace splitee::policy {

inline constexpr std::uint64_t kTestSeed = 20240917;

inline PolicyOptions options_for(std::size_t arms) {
  PolicyOptions options;
  options.layer_of.resize(arms);
  std::iota(options.layer_of.begin(), options.layer_of.end(), std::size_t{1});
  options.alpha = 0.8;
  options.seed = kTestSeed;
  return options;
}

// Exit i is sure (0.9) with probability sure[i], else 0.6; the last exit says 0.95.
inline Trace planted_trace(const std::vector<double>& sure, std::size_t samples,
                           std::uint64_t seed = kTestSeed) {
  Rng rng(seed);
  Trace trace;
  trace.exits = sure.size();
  for (std::size_t sample = 0; sample < samples; ++sample) {
    trace.label.push_back(static_cast<ClassNumber>(rng.below(2)));
    for (std::size_t exit = 0; exit < sure.size(); ++exit) {
      const bool last = exit + 1 == sure.size();
      const double confidence = last ? 0.95 : rng.uniform() < sure[exit] ? 0.9 : 0.6;
      const bool right = rng.uniform() < confidence;
      trace.prediction.push_back(right ? trace.label.back()
                                       : static_cast<ClassNumber>(1 - trace.label.back()));
      trace.confidence.push_back(confidence);
    }
  }
  return trace;
}

}  // namespace splitee::policy
