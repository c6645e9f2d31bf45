#include "policy/measure/link_estimator.h"

#include <algorithm>
#include <cmath>

namespace splitee::policy {
namespace {

constexpr double kFade = 0.95;
// A spread of sizes (bytes squared, summed) as good as what was known of the bandwidth before.
constexpr double kAnchorWeight = 2'000.0 * 2'000.0;
constexpr double kUsualErrors = 4.0;      // beyond so many it is an outlier
constexpr double kLeastError = 100.0;     // us; schedulers are no better
constexpr std::size_t kSlowOutliers = 4;  // for a change
constexpr std::size_t kFastOutliers = 2;  // nothing but a better link makes an answer early
constexpr int kGoodBetween = 4;

}  // namespace

void LinkEstimator::add(std::int64_t sent_us, std::int64_t link_us, std::uint64_t bytes) {
  Point point{static_cast<double>(bytes), own_time(sent_us, link_us)};
  if (known() && predictable(point.bytes)) point.us = within_usual(point);
  learn(point);
}

double LinkEstimator::own_time(std::int64_t sent_us, std::int64_t link_us) {
  const std::int64_t end_us = sent_us + std::max<std::int64_t>(0, link_us);
  std::int64_t start_us = sent_us;
  if (any_end_) {
    const std::int64_t free_us = last_end_us_ - static_cast<std::int64_t>(rtt_us_);
    start_us = std::clamp(free_us, sent_us, end_us);
  }
  last_end_us_ = any_end_ ? std::max(last_end_us_, end_us) : end_us;
  any_end_ = true;
  return static_cast<double>(end_us - start_us);
}

// Of sizes never seen before there is nothing to be far off from.
bool LinkEstimator::predictable(double bytes) const {
  const double apart = bytes - x_ / weight_;
  return bandwidth_known_ || apart * apart < kAnchorWeight / 4.0;
}

// The time as it may count. After enough outliers forgets what was before them.
double LinkEstimator::within_usual(const Point& point) {
  const double error = point.us - expected_us(point.bytes);
  const double limit = kUsualErrors * std::max(usual_error_us_, kLeastError);
  const double counted = std::clamp(error, -limit, limit);
  usual_error_us_ = kFade * usual_error_us_ + (1.0 - kFade) * std::abs(counted);
  if (counted == error) {
    if (++good_ >= kGoodBetween) outliers_.clear();
    return point.us;
  }
  good_ = 0;
  if (outliers_above_ != (error > 0)) outliers_.clear();
  outliers_above_ = error > 0;
  outliers_.push_back(point);
  if (outliers_.size() < (outliers_above_ ? kSlowOutliers : kFastOutliers))
    return point.us - error + counted;
  start_again();
  return point.us;
}

void LinkEstimator::start_again() {
  weight_ = x_ = y_ = xx_ = xy_ = 0;
  bandwidth_known_ = false;
  ++changes_;
  outliers_.pop_back();
  for (const Point& outlier : outliers_) learn(outlier);
  outliers_.clear();
}

void LinkEstimator::learn(const Point& point) {
  for (double* sum : {&weight_, &x_, &y_, &xx_, &xy_}) *sum *= kFade;
  weight_ += 1.0;
  x_ += point.bytes;
  y_ += point.us;
  xx_ += point.bytes * point.bytes;
  xy_ += point.bytes * point.us;
  fit();
}

void LinkEstimator::fit() {
  const double mean_x = x_ / weight_, mean_y = y_ / weight_;
  const double spread = std::max(0.0, xx_ - x_ * mean_x);
  const double slope =
      (xy_ - x_ * mean_y + kAnchorWeight * anchor_us_per_byte_) / (spread + kAnchorWeight);
  us_per_byte_ = std::max(0.0, slope);
  rtt_us_ = mean_y - us_per_byte_ * mean_x;
  if (rtt_us_ < 0.0) {
    rtt_us_ = 0.0;
    us_per_byte_ = xx_ > 0.0 ? xy_ / xx_ : us_per_byte_;
  }
  if (spread < 4.0 * kAnchorWeight) return;
  bandwidth_known_ = true;
  anchor_us_per_byte_ = us_per_byte_;
}

}  // namespace splitee::policy
