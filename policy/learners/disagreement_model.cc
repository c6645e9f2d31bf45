#include "policy/learners/disagreement_model.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace splitee::policy {
namespace {

constexpr double kSlopePull = 1.0, kBeforePull = 4.0;  // in rows
constexpr double kBaseRate = 0.2, kBaseRows = 0.5;     // a weak pull of a, towards this rate
constexpr double kLargestStep = 2.0;
constexpr double kLeastVariance = 1e-4, kLeastDeviation = 1e-3;
constexpr double kLargestNumber = 1e3;             // in a saved state
constexpr float kSurest = 1e-6f;                   // a larger confidence counts as 1 less this
constexpr float kLowest = -3.0f, kHighest = 4.0f;  // of x
constexpr std::size_t kCapacity = AuditRows::kCapacity;

// 1 / (1 + exp(-x)) by interpolation between 32 points a unit: the same on every machine, and fast.
class Logistic {
 public:
  Logistic() {
    for (std::size_t i = 0; i < table_.size(); ++i) {
      table_[i] = static_cast<float>(1.0 / (1.0 + std::exp(kRange - static_cast<double>(i) / 32)));
    }
  }
  float operator()(float x) const {
    constexpr auto kEdge = static_cast<float>(kRange) - 0.1f;
    const float place = (std::clamp(x, -kEdge, kEdge) + static_cast<float>(kRange)) * 32.0f;
    const auto at = static_cast<std::size_t>(place);
    const float rest = place - static_cast<float>(at);
    return table_[at] + rest * (table_[at + 1] - table_[at]);
  }

 private:
  static constexpr double kRange = 16.0;
  std::array<float, 32 * 32 + 1> table_{};
};
const Logistic logistic;

float sureness(float confidence) {
  return -std::log(std::max(1.0f - confidence, kSurest));
}

}  // namespace

DisagreementModel::DisagreementModel(std::size_t exits)
    : exits_(exits),
      curves_(exits),
      probability_(exits * kCapacity),
      standardized_(exits * kCapacity) {}

void DisagreementModel::archive(StateArchive& archive) {
  for (Curve& curve : curves_) {
    for (double* value :
         {&curve.a, &curve.b, &curve.c, &curve.mean, &curve.deviation, &curve.relation}) {
      archive.number(*value);
      if (archive.reading() && std::abs(*value) > kLargestNumber) archive.refuse();
    }
    if (archive.reading() && !(curve.deviation > kLeastDeviation)) archive.refuse();
  }
}

void DisagreementModel::standardize(const AuditRows& rows, std::size_t exit) {
  const std::span<const float> confidence = rows.confidence(exit);
  const std::span<float> x(&standardized_[exit * kCapacity], rows.size());
  double sum = 0.0, squares = 0.0;
  for (std::size_t row = 0; row < x.size(); ++row) {
    x[row] = sureness(confidence[row]);
    sum += static_cast<double>(x[row]);
    squares += static_cast<double>(x[row]) * static_cast<double>(x[row]);
  }
  const auto count = static_cast<double>(x.size());
  Curve& curve = curves_[exit];
  curve.mean = sum / count;
  curve.deviation = std::sqrt(std::max(squares / count - curve.mean * curve.mean, kLeastVariance));
  const auto mean = static_cast<float>(curve.mean);
  const auto scale = static_cast<float>(1.0 / curve.deviation);
  for (float& value : x) value = std::clamp((value - mean) * scale, kLowest, kHighest);
}

void DisagreementModel::relate(const AuditRows& rows, std::size_t exit) {
  const float* const x = &standardized_[exit * kCapacity];
  const float* const before = x - kCapacity;
  double both = 0.0, squares = 1.0;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    both += static_cast<double>(x[row] * before[row]);
    squares += static_cast<double>(x[row] * x[row]);
  }
  curves_[exit].relation = both / squares;
}

// One step of Newton's method; false where the curve is as good as fitted.
bool DisagreementModel::step(const AuditRows& rows, std::size_t exit) {
  Curve& curve = curves_[exit];
  const float* const x = &standardized_[exit * kCapacity];
  const float* const before = exit > 0 ? x - kCapacity : nullptr;
  const std::span<const float> differs = rows.differs(exit), weight = rows.weight();
  const double base = static_cast<double>(logistic(static_cast<float>(curve.a)));
  double g0 = kBaseRows * (kBaseRate - base), h00 = kBaseRows * base * (1.0 - base);
  double g1 = -kSlopePull * (curve.b + 1.0), g2 = -kBeforePull * curve.c;
  double h01 = 0.0, h02 = 0.0, h11 = kSlopePull, h12 = 0.0, h22 = kBeforePull;
  const auto a = static_cast<float>(curve.a), b = static_cast<float>(curve.b),
             c = static_cast<float>(curve.c);
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const float x1 = x[row], x2 = before != nullptr ? before[row] : 0.0f;
    const float p = logistic(a + b * x1 + c * x2);
    const auto error = static_cast<double>(weight[row] * (differs[row] - p));
    const auto scatter = static_cast<double>(weight[row] * p * (1.0f - p));
    const auto u = static_cast<double>(x1), v = static_cast<double>(x2);
    g0 += error;
    g1 += error * u;
    g2 += error * v;
    h00 += scatter;
    h01 += scatter * u;
    h02 += scatter * v;
    h11 += scatter * u * u;
    h12 += scatter * u * v;
    h22 += scatter * v * v;
  }
  const double m00 = h11 * h22 - h12 * h12, m01 = h01 * h22 - h02 * h12;
  const double m02 = h01 * h12 - h02 * h11;
  const double determinant = h00 * m00 - h01 * m01 + h02 * m02;
  if (!(determinant > 1e-12)) return false;
  const double da = (g0 * m00 - g1 * m01 + g2 * m02) / determinant;
  const double db =
      (-g0 * m01 + g1 * (h00 * h22 - h02 * h02) - g2 * (h00 * h12 - h01 * h02)) / determinant;
  const double dc =
      (g0 * m02 - g1 * (h00 * h12 - h01 * h02) + g2 * (h00 * h11 - h01 * h01)) / determinant;
  const double largest = std::max({std::abs(da), std::abs(db), std::abs(dc)});
  const double scale = kLargestStep / std::max(kLargestStep, largest);
  curve.a = std::clamp(curve.a + scale * da, -12.0, 6.0);
  curve.b = std::clamp(curve.b + scale * db, -8.0, 1.0);
  curve.c = std::clamp(curve.c + scale * dc, -8.0, 8.0);
  return largest > 1e-3;
}

void DisagreementModel::predict(std::size_t exit, std::size_t rows) {
  const Curve& curve = curves_[exit];
  const float* const x = &standardized_[exit * kCapacity];
  const auto a = static_cast<float>(curve.a), b = static_cast<float>(curve.b),
             c = static_cast<float>(curve.c);
  float* const out = &probability_[exit * kCapacity];
  for (std::size_t row = 0; row < rows; ++row) {
    const float before = exit > 0 ? x[row - kCapacity] : 0.0f;
    out[row] = logistic(a + b * x[row] + c * before);
  }
}

void DisagreementModel::fit(const AuditRows& rows, int steps) {
  rows_ = rows.size();
  if (rows_ == 0) return;
  for (std::size_t exit = 0; exit + 1 < exits_; ++exit) {
    standardize(rows, exit);
    if (exit > 0) relate(rows, exit);
    for (int i = 0; i < steps && step(rows, exit); ++i) {
    }
    predict(exit, rows_);
  }
}

double DisagreementModel::at(std::size_t exit, float confidence) const {
  const Curve& curve = curves_[exit];
  const double x =
      std::clamp((static_cast<double>(sureness(confidence)) - curve.mean) / curve.deviation,
                 static_cast<double>(kLowest), static_cast<double>(kHighest));
  const double sum = curve.a + (curve.b + curve.c * curve.relation) * x;
  return static_cast<double>(logistic(static_cast<float>(sum)));
}

}  // namespace splitee::policy
