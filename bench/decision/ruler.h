// The ruler for decisions: rules chosen in hindsight on one half of a trace, scored on the other.
//
// A rule is a point (disagreement with the last exit, cost in lambda); any mixture of rules can be
// had, so what counts is the lower convex hull of a class. The class: run everything, always exit
// k, one threshold, a threshold from exit k on, one look, two looks and then the last exit, a split
// or two looks with sending, a cascade to exit k and then sending, patience, a logistic stopping
// head, thresholds of its own for every exit by backward induction (optimal stopping), send at
// once. With two classes entropy and margin are the same test as a threshold.
// Thread rule: plain values; tune() and score() are pure.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "policy/cost.h"
#include "policy/learners/audit_rows.h"
#include "policy/replay/trace.h"

namespace splitee::bench {

struct Point {
  double disagreement = 0, cost = 0;  // per sample; lambda
};

// Lower convex hull, by ascending disagreement.
class Hull {
 public:
  explicit Hull(std::vector<Point> points);
  // Least cost at a disagreement; beyond the ends that of the end.
  double cost(double disagreement) const;
  // Cost that one more disagreement saves there, in lambda.
  double slope(double disagreement) const;
  // min(cost + beta * disagreement).
  double support(double beta) const;

 private:
  std::vector<Point> points_;
};

// A trace with what the ruler and the runs need of it, sample by sample.
struct Stream {
  std::size_t exits = 0;
  std::vector<float> confidence;     // (samples, exits)
  std::vector<std::int16_t> answer;  // (samples, exits)
  std::size_t samples() const { return answer.size() / exits; }
  bool differs(std::size_t sample, std::size_t exit) const {
    return answer[sample * exits + exit] != answer[(sample + 1) * exits - 1];
  }
  const float* at(std::size_t sample) const { return &confidence[sample * exits]; }
};
Stream stream_of(const policy::Trace& trace);
// What audits of samples spread evenly over these say, as many as there is room for.
policy::AuditRows audited(const Stream& stream, std::span<const std::uint32_t> samples);

// Prices in lambda, for exits at layers 1, 2, ...
struct Prices {
  double layer = 0.8, head = 0.2;
  double offload = -1.0;  // below 0: no server

  bool link() const { return offload >= 0.0; }
  double begin(std::size_t exit) const { return layer * static_cast<double>(exit + 1) + head; }
  double run(std::size_t from, std::size_t to) const {
    return layer * static_cast<double>(to - from) + head;
  }
};

struct Ruled {
  Hull whole_class;
  Hull threshold_from;  // threshold from exit k on
  Hull one_threshold;
};

// Tunes on some samples of the stream, scores on others.
Ruled rule(const Stream& stream, const Prices& prices, std::span<const std::uint32_t> tune,
           std::span<const std::uint32_t> score);

}  // namespace splitee::bench
