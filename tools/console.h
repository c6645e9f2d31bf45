// What the three programs say to people, and what they end with. Nothing here throws: a terminal
// that is gone, a pipe without a reader and a full disk are met by returning, not by dying.
// Thread rule: free functions, re-entrant.
#pragma once

#include <string>
#include <string_view>

#include <fmt/format.h>

#include "runtime/status.h"

namespace splitee::tools {

inline constexpr int kExitOk = 0;
inline constexpr int kExitError = 1;  // input, model, link or start-up
inline constexpr int kExitUsage = 2;  // wrong flags

// Called first by every program. A pipe without a reader and a file at its size limit become errors
// of writing, not ends by a signal; standard streams that the caller has closed are opened such
// that using them fails, so that no file or socket takes their numbers.
void prepare_process();

// `text` with control characters, and bytes where it is not UTF-8, spelled \xNN: what comes from
// files must not steer a terminal.
std::string printable(std::string_view text);

// Standard error, at once; errors of writing are dropped.
void print_message(std::string_view text);

// Standard output, at once.
runtime::Status print_output(std::string_view text);

// Prints "program: message" to standard error and returns the code for it: kExitUsage for
// kInvalidArgument, else kExitError.
int fail(std::string_view program, const runtime::Status& status);

// For errors of files: the runtime calls a path of the wrong kind an invalid argument, but to the
// caller of a program it is an input error, not wrong usage.
runtime::Status not_usage(runtime::Status status);

// kExitOk, or what fail() says.
int finish(std::string_view program, const runtime::Status& status);

}  // namespace splitee::tools
