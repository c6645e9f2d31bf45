// Exit codes of the three programs, and how a main prints what it ends with.
#pragma once

#include <string_view>

#include "runtime/status.h"

namespace splitee::tools {

inline constexpr int kExitOk = 0;
inline constexpr int kExitError = 1;  // input, model, link or start-up
inline constexpr int kExitUsage = 2;  // wrong flags

// Prints "program: message" to standard error and returns the code for it: kExitUsage for
// kInvalidArgument, else kExitError.
int fail(std::string_view program, const runtime::Status& status);

}  // namespace splitee::tools
