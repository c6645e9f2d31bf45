// A policy that the caller of splitee.h wrote, as the rest of the program knows policies. What it
// answers is checked: one that makes no sense, or SPLITEE_FAIL, has this sample and all later ones
// run to the last exit, and is told by `failed`, which the owner may set to false again. Thread
// rule: as Policy. Ownership: `failed`, and the `user` of the calls, must outlive it.
#pragma once

#include "base/status.h"
#include "capi/splitee.h"
#include "policy/policy.h"

namespace splitee::capi {

Status take_calls(const splitee_policy_calls* given, splitee_policy_calls& calls);

inline constexpr const char* kOwnPolicyFailed =
    "the caller's policy failed, or named an exit that there is not";

class OwnPolicy final : public policy::Policy {
 public:
  OwnPolicy(const splitee_policy_calls& calls, const policy::PolicyOptions& options, bool* failed)
      : calls_(calls), last_(options.last_arm()), costs_(options.costs), failed_(failed) {}

  policy::Plan plan(policy::LinkState link) override;
  policy::Action decide(const policy::Plan& plan, std::size_t arm,
                        const policy::ExitReading& reading) override;
  void observe(const policy::Outcome& outcome) override;
  std::uint64_t rejected() const override { return 0; }
  Status set_costs(const policy::CostModel& costs) override;
  std::string save_state() const override { return {}; }
  Status load_state(std::string_view) override;
  std::string_view name() const override { return "own"; }

 private:
  policy::Action give_up();

  splitee_policy_calls calls_;
  std::size_t last_;
  policy::CostModel costs_;
  bool* failed_;
  std::uint32_t next_sample_ = 0;
  bool given_up_ = false;
};

}  // namespace splitee::capi
