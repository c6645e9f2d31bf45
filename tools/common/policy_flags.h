// The flags of policies, made from the registry of policy/: who adds a policy or an option there
// has its flag, help and range here. Thread rule: as CLI11's App.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "base/status.h"
#include "policy/policy.h"

namespace splitee::tools {

// A flag for every option of policy::option_list(), which sets it in `options`.
void add_policy_option_flags(CLI::App& app, policy::PolicyOptions& options);

// Options of policies that were given and that `policy` does not read, as a message; empty: none.
std::string unread_options(const CLI::App& app, const std::string& policy);

// "Policies:" and a line for each, with the options that it reads.
std::string policy_table(std::span<const policy::PolicyInfo> more = {});

// Whether the policy of this name wants --split.
bool takes_split(const std::string& policy);
// The arm at layer `split`. kInvalidArgument where none is, and the message names the layers of
// `whose` exits; or where --split is wanted and missing.
Result<std::size_t> arm_at(std::optional<std::size_t> split, const std::vector<std::size_t>& layers,
                           const std::string& whose);

}  // namespace splitee::tools
