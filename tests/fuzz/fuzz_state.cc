// Policy state: the first byte names the policy and what is done with the rest. Most inputs are
// sealed as a whole file with a fitting header, so that the numbers behind it are reached.
#include <cmath>
#include <memory>

#include "policy/policy.h"
#include "policy/state.h"
#include "tests/fuzz/fuzz.h"

using namespace splitee::policy;
using splitee::fuzz::require;

namespace {

PolicyOptions options() {
  PolicyOptions made;
  made.layer_of = {2, 4, 6};
  made.window = 8;
  made.seed = 3;
  return made;
}

std::unique_ptr<Policy> make(std::size_t which) {
  return std::move(*make_policy(policy_names()[which % policy_names().size()], options()));
}

// A sample as the edge would see it.
void run_sample(Policy& policy, std::uint32_t number) {
  const Plan plan = policy.plan(number % 5 == 0 ? Link::kDown : Link::kUp);
  require(plan.arm < 3 || plan.arm == kOffloadAtOnce);
  std::vector<float> confidence(3, std::nanf(""));
  Outcome outcome;
  outcome.plan = plan;
  outcome.exit_arm = 2;
  outcome.route = Route::kOffload;
  outcome.answer_confidence = 0.9f;
  outcome.cost = 0.7;
  if (plan.arm != kOffloadAtOnce) {
    for (std::size_t arm = plan.every_exit ? 0 : plan.arm; arm <= plan.arm; ++arm) {
      const float sure = 0.5f + 0.1f * static_cast<float>((number + arm) % 5);
      const float probabilities[] = {sure, 1 - sure};
      confidence[arm] = sure;
      (void)policy.at_exit(plan, arm, probabilities);
    }
  }
  outcome.confidence = confidence;
  policy.observe(outcome);
}

// Keeps the header of the policy's own state and its checksum right.
std::string sealed(const Policy& policy, std::string_view body) {
  const std::string own = policy.save_state();
  const std::size_t own_body = open_state(own, policy.name(), options())->size();
  return seal_state(own.substr(0, own.size() - own_body - 8), body);
}

}  // namespace

std::vector<std::string> splitee::fuzz::seeds() {
  std::vector<std::string> inputs = {""};
  for (std::size_t which = 0; which < policy_names().size(); ++which) {
    const auto policy = make(which);
    for (std::uint32_t i = 0; i < 40; ++i) run_sample(*policy, i);
    const std::string state = policy->save_state();
    const auto body = open_state(state, policy->name(), options());
    const auto first = static_cast<char>(which);
    if (body.ok()) inputs.push_back(std::string(1, first) + std::string(*body));
    inputs.push_back(std::string(1, static_cast<char>(0x80 | first)) + state);
  }
  return inputs;
}

void splitee::fuzz::repair(std::string&) {}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto policy = make(data[0] & 0x7f);
  const std::string_view rest = splitee::fuzz::text_of(data + 1, size - 1);
  const std::string before = policy->save_state();
  const bool whole = (data[0] & 0x80) != 0;
  const std::string file = whole ? std::string(rest) : sealed(*policy, rest);
  const splitee::runtime::Status status = policy->load_state(file);
  if (!status.ok()) {
    require(policy->save_state() == before);
    require(status.message().starts_with("policy state: "));
    return 0;
  }
  // What was taken is what is saved, and the policy works on with it.
  require(policy->save_state() == file);
  for (std::uint32_t i = 0; i < 6; ++i) run_sample(*policy, i);
  return 0;
}
