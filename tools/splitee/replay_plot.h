// The page of `splitee replay --plot`: cost against disagreement for every policy, each at several
// settings, beside the hull of simple rules in hindsight; and every policy's regret with the
// paper's reward against one oracle. HTML with its drawings in it, nothing from outside, light and
// dark. Thread rule: pure functions.
#pragma once

#include <string>

#include "base/status.h"
#include "policy/replay/replay.h"

namespace splitee::tools {

// Replays every policy with the options' costs, server, runs, order and seed. Stops early, with
// what was replayed, where options.go_on says so.
Result<std::string> plot_page(const policy::Trace& trace, const policy::ReplayOptions& options,
                              const std::string& title);

}  // namespace splitee::tools
