// Notices that a stream has changed.
//
// By what is seen of every sample, without audits: the confidences of the first exit looked at.
// They fall into bins of equal share among those known at the start; the last kRecent (and the last
// kFew) are compared with all before, held-out samples of the model file among them, by Kolmogorov
// and Smirnov's distance, every kEvery samples. Where nothing changes, a false alarm comes once in
// some 300,000 samples.
//
// By audits: d_i, whether a would-be answer differed, against p_i, what the model said: a
// cumulative sum of d_i ln(kRatio) - (kRatio - 1) p_i, never below 0, is the log-likelihood ratio
// of "differs kRatio times as often as thought since some sample".
// By feedback: the same sum for "the answer was wrong", against the share of wrong answers since
// the last alarm, from the kLeastFeedback-th on. State: everything, in the order of the members.
// Thread rule: plain values. No allocation after construction.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "policy/learners/audit_rows.h"
#include "policy/state.h"

namespace splitee::policy {

class ShiftTest {
 public:
  static constexpr std::size_t kBins = 32, kRecent = 256, kFew = 64, kEvery = 16;
  static constexpr std::size_t kLeastBefore = 384;
  using Edges = std::array<float, kBins - 1>;
  // Confidences of the rows at an exit that divide them into bins of equal share.
  static Edges edges_of(const AuditRows& rows, std::size_t exit);
  static std::size_t bin_of(const Edges& edges, float confidence);

  // Begins anew. `edges`: what divides the bins, ascending. `known`: samples of which these are the
  // quantiles and which count as seen before.
  void begin(std::span<const float, kBins - 1> edges, std::uint64_t known = 0);
  // True: an alarm. begin() is to be called before the next one.
  bool add(float confidence);

  void archive(StateArchive& archive);

 private:
  bool far(std::size_t recent, double threshold) const;

  std::array<float, kBins - 1> edges_{};
  std::array<std::uint32_t, kBins> before_{};
  std::array<std::uint8_t, kRecent> ring_{};
  std::uint64_t count_ = 0;  // since begin()
  std::uint64_t known_ = 0;  // a kBins-th of them in each bin
};

class AuditTest {
 public:
  void begin() { sum_ = 0.0; }
  // True: an alarm.
  bool add(bool differs, double expected);

  void archive(StateArchive& archive) { archive.non_negative(sum_); }

 private:
  double sum_ = 0.0;
};

// Whether the first complete rows of a stream look like the held-out rows of the model file, these
// taken by their weights (prior_weights.h): every exit's confidences by Kolmogorov and Smirnov's
// distance, how often its class differs, and that the weights leave enough rows to speak of.
class PriorTest {
 public:
  static constexpr std::size_t kFirst = 40, kEvery = 20, kMost = 400;  // rows

  explicit PriorTest(std::size_t exits) : seen_(exits), edges_(exits) {}
  // The held-out rows; nothing is compared before.
  void begin(const AuditRows& rows);
  bool begun() const { return known_ > 0; }
  // Of the held-out rows' quantiles.
  const ShiftTest::Edges& edges(std::size_t exit) const { return edges_[exit]; }
  std::uint64_t known() const { return known_; }
  // A complete row: confidences, negative where the class differs. True: it is time to look.
  bool add(std::span<const float> row);
  // Whether they do not look alike, the held-out ones of `rows` taken by their weights.
  bool unlike(const AuditRows& rows) const;

  // Only what was seen of the stream: the held-out rows come with the model.
  void archive(StateArchive& archive);

 private:
  struct Seen {
    std::array<std::uint32_t, ShiftTest::kBins> bins{};
    std::uint32_t differing = 0;
  };
  bool far(const AuditRows& rows, std::size_t exit, double sum, double effective) const;

  std::uint64_t known_ = 0, rows_ = 0;
  std::vector<Seen> seen_;               // (exits)
  std::vector<ShiftTest::Edges> edges_;  // (exits): of the held-out rows' quantiles
};

class FeedbackTest {
 public:
  static constexpr std::uint64_t kLeastFeedback = 100;

  void begin() { *this = {}; }
  // True: an alarm.
  bool add(bool wrong);

  void archive(StateArchive& archive);

 private:
  AuditTest test_;
  std::uint64_t given_ = 0, wrong_ = 0;
};

}  // namespace splitee::policy
