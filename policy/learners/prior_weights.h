// Weighs the held-out rows of the model file by their likeness to the stream, so that rows of
// several kinds of samples serve a stream of one of them.
//
// A row counts exp(theta . x). x: -ln(1 - confidence) at four exits from the first to the last, and
// at how many exits the class differs; all standardised. theta makes the weighted means of x those
// of the stream's complete audited rows, but for a pull of kPull rows towards 0 (entropy balancing,
// Hainmueller 2012): the density ratio within an exponential family. Newton's method on a convex
// function. All weights together come to kShare of the effective number of rows,
// (sum w)^2 / sum w^2: the less the stream is like them the less they count, and rows that had to
// be bent say less of the answers that differ than those that fitted at once.
// Thread rule: plain values. No allocation after construction.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "policy/learners/audit_rows.h"

namespace splitee::policy {

class PriorWeights {
 public:
  explicit PriorWeights(std::size_t exits);

  // theta, from the rows of now. Returns how clearly the stream is unlike the held-out rows taken
  // as they are: twice its rows times the divergence (nats) of the weights from equal ones, which
  // where it is like them has chi-squared's distribution with kMoments degrees of freedom. 0 where
  // one of the two kinds of rows is missing.
  double fit(const AuditRows& rows, const AuditRows& checks);
  // Sets the weights of the held-out rows of both; fit() has been called with the same rows.
  void weigh(AuditRows& rows, AuditRows& checks) const;

  static constexpr std::size_t kMoments = 5;

 private:
  using Moments = std::array<double, kMoments>;

  // Of a row, not standardised.
  Moments moments(const AuditRows& rows, std::size_t row) const;
  bool standardise(const AuditRows& rows, const AuditRows& checks);
  bool step(double pull);
  double likeness(const Moments& x) const;

  std::array<std::size_t, kMoments - 1> exits_;
  std::vector<Moments> held_out_;  // standardised
  std::size_t count_ = 0;          // of these
  double stream_ = 0;              // complete rows of it
  Moments target_{}, theta_{};
};

}  // namespace splitee::policy
