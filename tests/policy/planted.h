// Streams with known properties, for the tests of policy/.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "base/rng.h"
#include "policy/learners/learners.h"
#include "policy/policy.h"
#include "policy/replay/trace.h"

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

// 12 exits that grow surer with depth and agree with one another as those of one network do: exit
// j's logit is gain_j * (sample's margin + noise that fades and is shared between neighbours).
// With alpha 0.7 and o = 0.5 the best split is the second, with three quarters of exits there.
inline Trace network_like_trace(std::size_t samples, double margin,
                                std::uint64_t seed = kTestSeed) {
  constexpr std::size_t kExits = 12;
  Rng rng(seed);
  const auto normal = [&rng] { return normal_quantile(rng.uniform() + 0x1p-60); };
  Trace trace;
  trace.exits = kExits;
  for (std::size_t sample = 0; sample < samples; ++sample) {
    const double own_margin = margin + 0.9 * normal();
    double noise = normal();
    trace.label.push_back(1);
    for (std::size_t exit = 0; exit < kExits; ++exit) {
      const auto depth = static_cast<double>(exit);
      noise = 0.8 * noise + 0.6 * normal();
      const double gain = 0.55 + 2.2 * (1.0 - std::exp(-depth / 2.5));
      const double logit = gain * (own_margin + 0.6 * std::exp(-depth / 4.0) * noise);
      const double p = 1.0 / (1.0 + std::exp(-logit));
      trace.prediction.push_back(p > 0.5 ? 1 : 0);
      trace.confidence.push_back(static_cast<double>(static_cast<float>(std::max(p, 1.0 - p))));
    }
  }
  return trace;
}

// Two kinds of samples. Easy (60 %): exits 0 and 1 are sure (0.99). Hard at 0, easy at 1 (40 %):
// exit 0 unsure, exit 1 sure (0.99), and the last exit is no better than 0.55 there. Arm 0 must
// offload the hard ones, for o and a poor answer; samples split at 1 all exit and never reveal it.
inline Trace selection_trace(std::size_t samples) {
  Rng rng(kTestSeed);
  Trace trace;
  trace.exits = 3;
  for (std::size_t i = 0; i < samples; ++i) {
    const bool easy = rng.uniform() < 0.6;
    trace.label.push_back(0);
    trace.prediction.insert(trace.prediction.end(), {0, 0, 0});
    trace.confidence.insert(trace.confidence.end(), {easy ? 0.99 : 0.5, 0.99, easy ? 0.99 : 0.55});
  }
  return trace;
}

// One stream after the other.
inline Trace joined(Trace first, const Trace& second) {
  const auto append = [](auto& to, const auto& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  append(first.label, second.label);
  append(first.prediction, second.prediction);
  append(first.confidence, second.confidence);
  return first;
}

}  // namespace splitee::policy
