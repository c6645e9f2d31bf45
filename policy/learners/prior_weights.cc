#include "policy/learners/prior_weights.h"

#include <algorithm>
#include <cmath>

namespace splitee::policy {
namespace {

constexpr double kPull = 4.0;
constexpr double kShare = 0.25;
constexpr int kSteps = 12;
constexpr double kLargestStep = 1.0, kEnough = 1e-4;
constexpr double kLeastDeviation = 1e-3, kSurest = 1e-6, kFarthest = 4.0;
constexpr double kMostExponent = 30.0;

}  // namespace

PriorWeights::PriorWeights(std::size_t exits)
    : exits_{0, (exits - 1) / 5, (exits - 1) / 2, exits - 1}, held_out_(2 * AuditRows::kCapacity) {}

PriorWeights::Moments PriorWeights::moments(const AuditRows& rows, std::size_t row) const {
  Moments x;
  for (std::size_t i = 0; i < exits_.size(); ++i) {
    const auto confidence = static_cast<double>(rows.confidence(exits_[i])[row]);
    x[i] = -std::log(std::max(1.0 - confidence, kSurest));
  }
  x.back() = 0.0;
  for (std::size_t exit = 0; exit + 1 < rows.exits(); ++exit) {
    x.back() += static_cast<double>(rows.differs(exit)[row]);
  }
  return x;
}

// Into held_out_ and target_, by the held-out rows' means and deviations.
bool PriorWeights::standardise(const AuditRows& rows, const AuditRows& checks) {
  Moments mean{}, squares{};
  count_ = 0;
  stream_ = 0.0;
  target_ = {};
  for (const AuditRows* part : {&rows, &checks}) {
    for (std::size_t row = 0; row < part->size(); ++row) {
      if (part->partial(row)) continue;
      const Moments x = moments(*part, row);
      const bool held_out = part->held_out(row);
      if (held_out) held_out_[count_++] = x;
      if (!held_out) stream_ += 1.0;
      for (std::size_t i = 0; i < kMoments; ++i) {
        mean[i] += held_out ? x[i] : 0.0;
        squares[i] += held_out ? x[i] * x[i] : 0.0;
        target_[i] += held_out ? 0.0 : x[i];
      }
    }
  }
  if (count_ == 0 || !(stream_ > 0.0)) return false;
  const auto count = static_cast<double>(count_);
  for (std::size_t i = 0; i < kMoments; ++i) {
    mean[i] /= count;
    const double variance = std::max(squares[i] / count - mean[i] * mean[i], 0.0);
    const double scale = 1.0 / std::max(std::sqrt(variance), kLeastDeviation);
    target_[i] = std::clamp((target_[i] / stream_ - mean[i]) * scale, -kFarthest, kFarthest);
    for (std::size_t row = 0; row < count_; ++row) {
      held_out_[row][i] = (held_out_[row][i] - mean[i]) * scale;
    }
  }
  return true;
}

double PriorWeights::likeness(const Moments& x) const {
  double sum = 0.0;
  for (std::size_t i = 0; i < kMoments; ++i) sum += theta_[i] * x[i];
  return std::exp(std::clamp(sum, -kMostExponent, kMostExponent));
}

// One step of Newton's method; false where theta is as good as found.
bool PriorWeights::step(double pull) {
  double sum = 0.0;
  Moments mean{};
  std::array<Moments, kMoments> h{};
  for (std::size_t row = 0; row < count_; ++row) {
    const Moments& x = held_out_[row];
    const double w = likeness(x);
    sum += w;
    for (std::size_t i = 0; i < kMoments; ++i) {
      mean[i] += w * x[i];
      for (std::size_t j = 0; j <= i; ++j) h[i][j] += w * x[i] * x[j];
    }
  }
  // Cholesky's decomposition of the Hessian, then the two triangles.
  Moments move;
  for (std::size_t i = 0; i < kMoments; ++i) {
    move[i] = target_[i] - mean[i] / sum - pull * theta_[i];
    for (std::size_t j = 0; j <= i; ++j) {
      double value = h[i][j] / sum - mean[i] * mean[j] / (sum * sum) + (i == j ? pull : 0.0);
      for (std::size_t k = 0; k < j; ++k) value -= h[i][k] * h[j][k];
      h[i][j] = i == j ? std::sqrt(std::max(value, 1e-9)) : value / h[j][j];
    }
  }
  for (std::size_t i = 0; i < kMoments; ++i) {
    for (std::size_t j = 0; j < i; ++j) move[i] -= h[i][j] * move[j];
    move[i] /= h[i][i];
  }
  for (std::size_t i = kMoments; i-- > 0;) {
    for (std::size_t j = i + 1; j < kMoments; ++j) move[i] -= h[j][i] * move[j];
    move[i] /= h[i][i];
  }
  double largest = 0.0;
  for (const double value : move) largest = std::max(largest, std::abs(value));
  const double scale = kLargestStep / std::max(kLargestStep, largest);
  for (std::size_t i = 0; i < kMoments; ++i) theta_[i] += scale * move[i];
  return largest > kEnough;
}

double PriorWeights::fit(const AuditRows& rows, const AuditRows& checks) {
  theta_ = {};
  if (!standardise(rows, checks)) {
    count_ = 0;
    return 0.0;
  }
  for (int i = 0; i < kSteps && step(kPull / stream_); ++i) {
  }
  double sum = 0.0, logs = 0.0;
  for (std::size_t row = 0; row < count_; ++row) {
    const double w = likeness(held_out_[row]);
    sum += w;
    logs += w * std::log(w);
  }
  const double divergence = logs / sum - std::log(sum / static_cast<double>(count_));
  return 2.0 * stream_ * divergence;
}

void PriorWeights::weigh(AuditRows& rows, AuditRows& checks) const {
  double sum = 0.0, squares = 0.0;
  for (std::size_t row = 0; row < count_; ++row) {
    const double w = likeness(held_out_[row]);
    sum += w;
    squares += w * w;
  }
  std::size_t at = 0;
  for (AuditRows* part : {&rows, &checks}) {
    for (std::size_t row = 0; row < part->size() && at < count_; ++row) {
      if (!part->held_out(row)) continue;
      const double w = likeness(held_out_[at++]);
      part->set_weight(row, static_cast<float>(kShare * w * sum / squares));
    }
  }
}

}  // namespace splitee::policy
