#include "capi/own_policy.h"

#include <cmath>

#include "capi/handles.h"

namespace splitee::capi {

using policy::Action;
using policy::LinkState;
using policy::Plan;

Status take_calls(const splitee_policy_calls* given, splitee_policy_calls& calls) {
  if (Status status = take(given, calls); !status.ok()) return status;
  if (calls.plan == nullptr || calls.decide == nullptr) return invalid("plan or decide is NULL");
  return {};
}

Action OwnPolicy::give_up() {
  *failed_ = given_up_ = true;
  return Action::run_on_to(last_);
}

Plan OwnPolicy::plan(LinkState link) {
  Plan plan;
  plan.arm = plan.first = last_;
  plan.ticket = next_sample_++;
  plan.link = link;
  if (given_up_) return plan;
  const int first = calls_.plan(calls_.user, plan.ticket, static_cast<int>(link));
  if (first == SPLITEE_SEND) {
    plan.arm = policy::kOffloadAtOnce;
  } else if (first >= 0 && static_cast<std::size_t>(first) <= last_) {
    plan.first = static_cast<std::size_t>(first);
  } else {
    give_up();
  }
  return plan;
}

Action OwnPolicy::decide(const Plan& plan, std::size_t arm, const policy::ExitReading& reading) {
  splitee_reading told{};
  told.struct_size = sizeof told;
  told.sample = plan.ticket;
  told.exit = arm;
  told.exits = last_ + 1;
  told.confidence = reading.confidence;
  told.class_index = static_cast<std::uint32_t>(reading.prediction);
  told.probabilities = reading.probabilities.data();
  told.classes = reading.classes;
  told.link = static_cast<int>(plan.link);
  const int answer = given_up_ ? SPLITEE_ANSWER : calls_.decide(calls_.user, &told);
  if (arm == last_) {
    if (answer == SPLITEE_FAIL) give_up();
    return Action::kExit;
  }
  if (given_up_) return Action::run_on_to(last_);
  if (answer == SPLITEE_ANSWER) {
    return std::isnan(reading.confidence) ? Action::run_on_to(last_) : Action(Action::kExit);
  }
  if (answer == SPLITEE_SEND) {
    return plan.link == LinkState::kUp ? Action(Action::kOffload) : Action::run_on_to(last_);
  }
  const bool later = answer > static_cast<int>(arm) && static_cast<std::size_t>(answer) <= last_;
  return later ? Action::run_on_to(static_cast<std::size_t>(answer)) : give_up();
}

void OwnPolicy::observe(const policy::Outcome& outcome) {
  if (given_up_ || calls_.observe == nullptr) return;
  const splitee_outcome told = outcome_of(outcome, costs_);
  calls_.observe(calls_.user, &told);
}

Status OwnPolicy::set_costs(const policy::CostModel& costs) {
  if (Status status = policy::check_costs(costs); !status.ok()) return status;
  costs_ = costs;
  return {};
}

Status OwnPolicy::load_state(std::string_view) {
  return Status(Code::kUnsupported, "the caller's own policy: its state is the caller's too");
}

}  // namespace splitee::capi
