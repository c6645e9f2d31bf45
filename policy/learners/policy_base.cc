#include "policy/learners/policy_base.h"

#include <algorithm>
#include <cmath>

namespace splitee::policy {
namespace {

// Of one sample, at costs that check_costs() takes.
constexpr double kMostPaid = 1e35;

bool is_confidence(float value) {
  return value >= 0.0f && value <= 1.0f;
}  // false for NaN

}  // namespace

std::string_view route_name(Route route) {
  switch (route) {
    case Route::kExit:
      return "exit";
    case Route::kOffload:
      return "offload";
    case Route::kFallback:
      return "fallback";
    case Route::kFinal:
      return "final";
    case Route::kAudit:
      return "audit";
  }
  return "";
}

ExitReading read_exit(std::span<const float> probabilities) {
  ExitReading reading;
  reading.classes = probabilities.size();
  reading.probabilities = probabilities;
  reading.confidence = std::numeric_limits<float>::quiet_NaN();
  if (probabilities.empty() || !std::ranges::all_of(probabilities, is_confidence)) return reading;
  const auto largest = std::ranges::max_element(probabilities);
  reading.prediction = static_cast<std::size_t>(largest - probabilities.begin());
  reading.confidence = *largest;
  return reading;
}

void PolicyBase::observe(const Outcome& outcome) {
  if (!tickets_.redeem(outcome.plan.ticket) || !is_sound(outcome)) {
    ++rejected_;
  } else if (outcome.plan.link != LinkState::kDown || learns_without_link()) {
    learn(outcome);
  }
}

Status PolicyBase::set_costs(const CostModel& costs) {
  if (Status status = check_costs(costs); !status.ok()) return status;
  costs_ = costs;
  costs_changed();
  return {};
}

// Of a sample whose policy named the exits one by one: any of them may have been evaluated.
bool PolicyBase::are_sound(const Outcome& outcome) const {
  const bool answered_here = outcome.route != Route::kOffload;
  if (answered_here && !is_confidence(outcome.confidence[outcome.exit_arm])) return false;
  return std::ranges::all_of(outcome.confidence, [](float confidence) {
    return std::isnan(confidence) || is_confidence(confidence);
  });
}

bool PolicyBase::is_sound(const Outcome& outcome) const {
  const std::size_t arms = options_.arms();
  const Plan& plan = outcome.plan;
  if (!is_confidence(outcome.answer_confidence)) return false;
  if (!(outcome.cost >= 0.0 && outcome.cost <= kMostPaid)) return false;
  if (outcome.confidence.size() != arms || outcome.exit_arm >= arms) return false;
  if (plan.arm == kOffloadAtOnce) return true;
  if (plan.arm >= arms) return false;
  if (plan.first != kAsPlanned) return are_sound(outcome);
  // Exits evaluated: all up to where it ended, or the split's own; each must be a confidence.
  const std::size_t reached = std::min(plan.arm, outcome.exit_arm);
  for (std::size_t arm = plan.every_exit ? 0 : reached; arm <= reached; ++arm) {
    if (!is_confidence(outcome.confidence[arm])) return false;
  }
  return true;
}

std::string PolicyBase::body() const {
  StateArchive archive;
  // archive() serves both directions; when writing it leaves its fields alone.
  auto* self = const_cast<PolicyBase*>(this);
  archive.word(self->rejected_);
  self->archive(archive);
  return archive.output();
}

PolicyOptions PolicyBase::state_options() const {
  PolicyOptions options = options_;
  options.costs = keeps_rewards() ? costs_ : CostModel();
  return options;
}

std::string PolicyBase::save_state() const {
  return seal_state(state_header(name_, state_options()), body());
}

Status PolicyBase::load_state(std::string_view bytes) {
  const Result<std::string_view> opened = open_state(bytes, name_, state_options());
  if (!opened.ok()) return opened.status();
  const std::string before = body();
  const auto restore = [this](std::string_view state) {
    StateArchive reader(state);
    reader.word(rejected_);
    archive(reader);
    return !reader.failed() && reader.at_end();
  };
  if (!restore(*opened)) {
    SPLITEE_CHECK(restore(before));
    return {Code::kCorrupt, "policy state: a number is missing or out of range"};
  }
  tickets_.forget();
  return {};
}

}  // namespace splitee::policy
