#include "policy/replay/replay_recorder.h"

#include <algorithm>
#include <cmath>

namespace splitee::policy {
namespace {

constexpr std::size_t kEvenPoints = 20;
constexpr std::size_t kLongStream = 1000;

// 1, 2, 5, 10, 20, 50, ... below `samples`, every twentieth part of a long stream, and `samples`.
std::vector<std::size_t> regret_points(std::size_t samples) {
  std::vector<std::size_t> points;
  for (std::size_t decade = 1; decade < samples; decade *= 10) {
    for (const std::size_t digit : {1u, 2u, 5u}) {
      if (digit * decade < samples) points.push_back(digit * decade);
    }
  }
  for (std::size_t part = 1; samples >= kLongStream && part < kEvenPoints; ++part) {
    points.push_back(samples * part / kEvenPoints);
  }
  points.push_back(samples);
  std::ranges::sort(points);
  points.erase(std::unique(points.begin(), points.end()), points.end());
  return points;
}

// Two-sided 95 % quantile of Student's t (any statistics table); the last entry stands for more.
double student_t(std::size_t degrees) {
  constexpr double kQuantiles[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                                   2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
                                   2.110,  2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064,
                                   2.060,  2.056, 2.052, 2.048, 2.045, 2.042};
  return degrees <= std::size(kQuantiles) ? kQuantiles[degrees - 1] : 1.96;
}

double ratio(std::uint64_t part, std::size_t whole) {
  return static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

Estimate estimate(std::span<const double> values) {
  const auto count = static_cast<double>(values.size());
  double sum = 0.0;
  for (const double value : values) sum += value;
  const double mean = sum / count;
  if (values.size() < 2) return {mean, 0.0};
  double squares = 0.0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const double error = std::sqrt(squares / (count - 1.0) / count);
  return {mean, student_t(values.size() - 1) * error};
}

Recorder::Recorder(const Trace& trace, const ReplayOptions& options)
    : trace_(trace),
      options_(options),
      exits_(trace.exits),
      points_(regret_points(trace.samples())),
      regrets_(points_.size()),
      answered_(trace.exits) {
  const auto unlabelled = std::ranges::count(trace.label, kNoLabel);
  labelled_ = trace.samples() - static_cast<std::size_t>(unlabelled);
}

void Recorder::begin_run() {
  t_ = 0;
  point_ = 0;
  next_point_ = points_.front();
  correct_ = 0;
  offloads_ = 0;
  differing_ = 0;
  cost_ = 0;
  regret_ = 0;
}

void Recorder::add_point() {
  regrets_[point_].push_back(regret_);
  ++point_;
  next_point_ = point_ < points_.size() ? points_[point_] : 0;
}

void Recorder::report(const SampleRecord& record) const {
  options_.on_decision({.run = runs_,
                        .t = t_ - 1,
                        .sample = record.sample,
                        .arm = record.arm,
                        .route = record.route,
                        .exit_arm = record.exit_arm,
                        .differs = record.differs,
                        .reward = record.reward,
                        .cost = record.cost});
}

void Recorder::end_run(std::optional<double> upper) {
  ++runs_;
  if (labelled_ > 0) accuracies_.push_back(ratio(correct_, labelled_));
  costs_.push_back(cost_ / static_cast<double>(t_));
  offload_rates_.push_back(ratio(offloads_, t_));
  disagreements_.push_back(ratio(differing_, t_));
  if (upper) uppers_.push_back(*upper);
}

ReplayResult Recorder::result(double final_cost) const {
  ReplayResult result;
  result.policy = options_.policy;
  result.samples = trace_.samples();
  result.runs = runs_;
  result.cost = estimate(costs_);
  result.offload_rate = estimate(offload_rates_);
  result.disagreement = estimate(disagreements_);
  result.audit_rate = ratio(audits_, runs_ * trace_.samples());
  if (!uppers_.empty()) result.upper = estimate(uppers_);
  result.final_cost = final_cost;
  result.cost_reduction = 1.0 - result.cost.mean / final_cost;
  if (labelled_ > 0) {
    std::uint64_t correct = 0;
    for (std::size_t sample = 0; sample < trace_.samples(); ++sample) {
      correct += trace_.label[sample] == trace_.prediction[(sample + 1) * exits_ - 1] ? 1 : 0;
    }
    result.accuracy = estimate(accuracies_);
    result.final_accuracy = ratio(correct, labelled_);
  }
  for (const std::uint64_t count : answered_) {
    result.exit_share.push_back(ratio(count, runs_ * trace_.samples()));
  }
  for (std::size_t i = 0; i < points_.size(); ++i) {
    result.regret.push_back({points_[i], estimate(regrets_[i])});
  }
  return result;
}

}  // namespace splitee::policy
