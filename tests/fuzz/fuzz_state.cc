// Policy state. The first bytes name the policy, the number of arms and what is done with the rest:
//   a whole file; a body behind a fitting header; or changes of single numbers in the body that the
//   policy itself writes after some samples, to values at and beyond every bound.
// Bodies are sealed with a true checksum, so that the numbers in them are reached.
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "policy/policy.h"
#include "policy/state.h"
#include "tests/fuzz/fuzz.h"

using namespace splitee;
using namespace splitee::policy;
using splitee::fuzz::require;

namespace {

// Below, at and beyond what is computed two and four at a time, an odd one among them.
constexpr std::size_t kArms[] = {3, 5, 13};
enum Form : std::uint8_t { kWholeFile, kBody, kChanges, kForms };

PolicyOptions options(std::size_t arms, bool alphas) {
  PolicyOptions made;
  for (std::size_t arm = 1; arm <= arms; ++arm) made.layer_of.push_back(2 * arm);
  if (alphas) made.exit_alphas.assign(arms, 0.7);
  made.window = 8;
  made.seed = 3;
  return made;
}

std::unique_ptr<Policy> make(std::size_t which, const PolicyOptions& options) {
  return std::move(*make_policy(policy_names()[which % policy_names().size()], options));
}

// A sample as the edge would see it.
void run_sample(Policy& policy, std::uint32_t number, std::size_t arms) {
  const Plan plan = policy.plan(number % 5 == 0 ? LinkState::kDown : LinkState::kUp);
  require(plan.arm < arms || plan.arm == kOffloadAtOnce);
  std::vector<float> confidence(arms, std::nanf(""));
  Outcome outcome;
  outcome.plan = plan;
  outcome.exit_arm = arms - 1;
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

std::string body_of(const Policy& policy, const PolicyOptions& options) {
  const std::string state = policy.save_state();
  const auto body = open_state(state, policy.name(), options);
  // A policy that learns nothing of costs has another header than its options.
  return body.ok() ? std::string(*body) : std::string();
}

// Keeps the header of the policy's own state and its checksum right.
std::string sealed(const Policy& policy, std::string_view body, std::size_t own_body) {
  const std::string own = policy.save_state();
  return seal_state(own.substr(0, own.size() - own_body - 8), body);
}

double changed(double value, std::uint8_t how) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double values[] = {
      0.0, -0.0, 0.5, 1.0, -1.0, 1.5, 2.0, 40.0, 1e-100, 5e-324, 2e-308, 0x1p53, 0x1p53 + 2, 1e70,
      2e70, 1e140, 1e300, std::numeric_limits<double>::max(), kInfinity, -kInfinity,
      std::numeric_limits<double>::quiet_NaN(),
      // As a u64: indices and counters.
      std::bit_cast<double>(std::uint64_t{2}), std::bit_cast<double>(std::uint64_t{3}),
      std::bit_cast<double>(std::uint64_t{4}), std::bit_cast<double>(std::uint64_t{5}),
      std::bit_cast<double>(std::uint64_t{12}), std::bit_cast<double>(std::uint64_t{13}),
      std::bit_cast<double>(~std::uint64_t{0}),
      std::bit_cast<double>(std::uint64_t{1} << 53)};  // clang-format off
  // clang-format on
  switch (how % 8) {
    case 0:
      return value + 1.0;
    case 1:
      return value - 1.0;
    case 2:
      return -value;
    case 3:
      return std::nextafter(value, kInfinity);
    case 4:
      return std::nextafter(value, -kInfinity);
    default:
      return values[how / 8 % std::size(values)];
  }
}

// Pairs of a number's place and what becomes of it.
void change_numbers(std::string& body, splitee::fuzz::Taker& taker) {
  while (!taker.empty() && body.size() >= 8) {
    const std::size_t place = (taker.byte() | taker.byte() << 8) % (body.size() / 8) * 8;
    double value = 0;
    std::memcpy(&value, body.data() + place, 8);
    value = changed(value, taker.byte());
    std::memcpy(body.data() + place, &value, 8);
  }
}

std::string input(std::size_t which, std::size_t arms, Form form, std::string_view rest) {
  std::string bytes = {static_cast<char>(which), static_cast<char>(arms | form << 2), 40};
  bytes += rest;
  return bytes;
}

}  // namespace

std::vector<std::string> splitee::fuzz::seeds() {
  std::vector<std::string> inputs = {""};
  for (std::size_t which = 0; which < policy_names().size(); ++which) {
    for (std::size_t arms = 0; arms < std::size(kArms); ++arms) {
      const PolicyOptions made = options(kArms[arms], false);
      const auto policy = make(which, made);
      for (std::uint32_t i = 0; i < 40; ++i) run_sample(*policy, i, kArms[arms]);
      inputs.push_back(input(which, arms, kWholeFile, policy->save_state()));
      const std::string body = body_of(*policy, made);
      inputs.push_back(input(which, arms, kBody, body));
      // Every number once, each to a value of its own.
      for (std::size_t number = 0; number < std::min<std::size_t>(body.size() / 8, 100); ++number) {
        const char change[] = {static_cast<char>(number), static_cast<char>(number >> 8),
                               static_cast<char>(37 * number + 29 * arms)};
        inputs.push_back(input(which, arms, kChanges, std::string_view(change, 3)));
      }
    }
  }
  return inputs;
}

void splitee::fuzz::repair(std::string&) {}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  splitee::fuzz::Taker taker(data, size);
  const std::size_t which = taker.byte();
  const std::uint8_t shape = taker.byte(), samples = taker.byte();
  const std::size_t arms = kArms[shape % 4 % std::size(kArms)];
  const auto form = static_cast<Form>((shape >> 2) % kForms);
  const PolicyOptions made = options(arms, (shape & 0x80) != 0);
  const auto policy = make(which, made);
  const std::string fresh_body = body_of(*policy, made);
  for (std::uint32_t i = 0; i < samples % 64u; ++i) run_sample(*policy, i, arms);
  const std::string before = policy->save_state();
  std::string file;
  if (form == kWholeFile) {
    file = std::string(taker.rest());
  } else {
    std::string body(form == kBody ? taker.rest() : std::string_view());
    if (form == kChanges) {
      body = body_of(*policy, made);
      change_numbers(body, taker);
    }
    file = sealed(*policy, body, fresh_body.size());
  }
  const splitee::Status status = policy->load_state(file);
  if (!status.ok()) {
    require(policy->save_state() == before);
    require(status.message().starts_with("policy state: "));
    return 0;
  }
  // What was taken is what is saved, but for audits on their way, which have ended by then; and the
  // policy works on with it.
  const std::string taken = policy->save_state();
  require(taken == file || policy_list()[which % policy_names().size()].audits);
  require(policy->load_state(taken).ok() && policy->save_state() == taken);
  for (std::uint32_t i = 0; i < 40; ++i) run_sample(*policy, i, arms);
  // What it saves, it takes.
  const std::string after = policy->save_state();
  require(policy->load_state(after).ok() && policy->save_state() == after);
  return 0;
}
