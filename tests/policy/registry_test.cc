// The registry as data: what flags, help and checks are made from.
#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include <doctest/doctest.h>

#include "policy/policy.h"

using namespace splitee;
using namespace splitee::policy;

namespace {

const OptionInfo* find_option(std::string_view name) {
  const auto found = std::ranges::find(option_list(), name, &OptionInfo::name);
  return found == option_list().end() ? nullptr : &*found;
}

PolicyOptions usable() {
  PolicyOptions options;
  options.layer_of = {1, 2, 3};
  options.costs.offload = 0.01;  // less than any layer: sending pays
  return options;
}

}  // namespace

TEST_CASE("Registry: every option is read by a policy, and every policy names options that are") {
  std::set<std::string_view> read;
  for (const PolicyInfo& info : policy_list()) {
    CAPTURE(std::string(info.name));
    for (const std::string_view name : info.options) {
      CHECK(find_option(name) != nullptr);
      read.insert(name);
    }
    CHECK(find_policy(info.name)->summary == info.summary);
  }
  for (const OptionInfo& option : option_list()) CHECK(read.contains(option.name));
  for (const char* name : {"exploration", "entropy-threshold", "first-exit", "patience", "discount",
                           "policy-window", "change-threshold"}) {
    CHECK(find_option(name) != nullptr);
  }
  CHECK(find_policy("no such policy") == nullptr);
  CHECK(find_policy(kDefaultPolicy) != nullptr);
}

TEST_CASE("Registry: an option's value comes back, its default is in range, others are refused") {
  for (const OptionInfo& option : option_list()) {
    CAPTURE(std::string(option.name));
    const double standard = option.get(PolicyOptions{});
    CHECK((in_range(option, standard) || (std::isnan(standard) && !option.unset.empty())));
    const double good = option.words.empty() ? (option.whole ? 2.0 : 0.5) : 0.0;
    REQUIRE(in_range(option, good));
    PolicyOptions options = usable();
    option.set(options, good);
    CHECK(option.get(options) == good);
    CHECK(make_policy("splitee", options).ok());
    const double too_low = option.above_low ? option.low : option.low - 1;
    for (const double bad : {too_low, option.high * 2 + 1}) {
      CHECK_FALSE(in_range(option, bad));
    }
    CHECK_FALSE(in_range(option, std::nan("")));
    CHECK(in_range(option, 1.5) == (option.words.empty() && !option.whole && option.high >= 1.5));
    CHECK_FALSE(range_text(option).empty());
  }
}

TEST_CASE("Registry: what policies look at, and whether they send, is as they behave") {
  for (const PolicyInfo& info : policy_list()) {
    CAPTURE(std::string(info.name));
    bool sent = false;
    std::unique_ptr<Policy> policy;
    for (unsigned i = 0; i < 200; ++i) {
      if (i % 20 == 0) {
        PolicyOptions options = usable();
        options.seed = i;  // some draw once where they split
        policy = std::move(*make_policy(info.name, options));
      }
      const Plan plan = policy->plan(LinkState::kUp);
      if (info.looks == Looks::kAtNone) CHECK(plan.arm == kOffloadAtOnce);
      if (info.looks == Looks::kAtLast) CHECK(plan.arm == 2);
      if (info.every_exit()) CHECK(plan.every_exit);
      if (plan.arm == kOffloadAtOnce) {
        sent = true;
        continue;
      }
      // Unsure of everything.
      const float even[] = {0.5f, 0.5f};
      const Action action = policy->at_exit(plan, plan.arm, even);
      sent = sent || action == Action::kOffload;
      Outcome outcome;
      outcome.plan = plan;
      outcome.exit_arm = 2;
      const float confidence[] = {0.5f, 0.5f, 0.5f};
      outcome.confidence = confidence;
      outcome.answer_confidence = 0.5f;
      outcome.cost = 0.3;
      policy->observe(outcome);
    }
    CHECK(sent == info.sends);
  }
}
