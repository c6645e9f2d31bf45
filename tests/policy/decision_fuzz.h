// What the parts of decision_fuzz share: families of cases, each drawn from a generator.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"
#include "policy/policy.h"

namespace splitee::policy::fuzzed {

struct Tried {
  std::size_t compared = 0;  // samples, or results
  std::string difference;    // empty: none
};

struct Family {
  std::string_view name;
  std::function<Tried(Rng&)> run;
};

Tried rule_case(Rng& rng);
std::vector<Family> property_families();
std::vector<Family> audited_families();

PolicyOptions any_options_once();

}  // namespace splitee::policy::fuzzed
