// `splitee replay` for who calls it from another program. Thread rule: a pure function, but for the
// files that its options name.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "policy/policy.h"

namespace splitee::tools {

using OwnPolicy = std::function<std::unique_ptr<policy::Policy>(const policy::PolicyOptions&)>;

// The figures as --json prints them. `words`: the command's flags as "name=value"; `own_policy`,
// where it is not empty, makes the policy of each run, and --policy is not to be given.
Result<std::string> replay_words(const std::string& trace, std::vector<std::string> words,
                                 const OwnPolicy& own_policy = {});

}  // namespace splitee::tools
