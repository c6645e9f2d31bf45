// How likely an exit's class differs from the last exit's, from its confidence: a logistic curve
// per exit,
//   P(differs) = 1 / (1 + exp(-(a + b x_i + c x_{i-1}))),
// x_i = -ln(1 - confidence) of exit i, less its mean, over its standard deviation. The exit before
// matters because those samples that an earlier look could not answer are harder than others of
// the same confidence. Fitted to weighted rows by Newton's method, a step or a few at a time, with
// a weak pull of b towards -1 and c towards 0.
// State: per exit f64 a, b, c, mean, standard deviation, and the slope of x_{i-1} on x_i.
// Thread rule: plain values. No allocation after construction.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "policy/learners/audit_rows.h"

namespace splitee::policy {

class DisagreementModel {
 public:
  explicit DisagreementModel(std::size_t exits);

  // `steps` of Newton's method for every exit but the last, from where the last fit ended.
  void fit(const AuditRows& rows, int steps);

  // Of the rows last fitted to.
  std::span<const float> of_rows(std::size_t exit) const {
    return {&probability_[exit * AuditRows::kCapacity], rows_};
  }
  // Of a sample at hand, known by one exit's confidence.
  double at(std::size_t exit, float confidence) const;

  void archive(StateArchive& archive);

 private:
  struct Curve {
    double a = -3.0, b = -1.0, c = 0.0;  // what is believed without any row
    double mean = 1.0, deviation = 1.0;  // of -ln(1 - confidence)
    double relation = 0.0;               // of x_{i-1} to x_i
  };
  void standardize(const AuditRows& rows, std::size_t exit);
  void relate(const AuditRows& rows, std::size_t exit);
  bool step(const AuditRows& rows, std::size_t exit);
  void predict(std::size_t exit, std::size_t rows);

  std::size_t exits_;
  std::size_t rows_ = 0;
  std::vector<Curve> curves_;
  std::vector<float> probability_;   // (exits, kCapacity)
  std::vector<float> standardized_;  // (exits, kCapacity)
};

}  // namespace splitee::policy
