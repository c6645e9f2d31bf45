// What the three programs say to people, and what they end with. Nothing here throws: a terminal
// that is gone, a pipe without a reader and a full disk are met by returning, not by dying.
// Thread rule: free functions, re-entrant after prepare_process().
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "base/status.h"
#include "tools/common/log_format.h"

namespace splitee::tools {

inline constexpr int kExitOk = 0;
inline constexpr int kExitError = 1;  // input, model, link or start-up
inline constexpr int kExitUsage = 2;  // wrong flags

// Called first by every program, before any thread exists. A pipe without a reader and a file at
// its size limit become errors of writing, not ends by a signal; standard streams that the caller
// has closed are opened such that using them fails, so that no file or socket takes their numbers.
void prepare_process();

// `text` with control characters, and bytes where it is not UTF-8, spelled \xNN: what comes from
// files must not steer a terminal.
std::string printable(std::string_view text);

// How messages are laid out from now on: plain until then. Before any thread exists.
void set_log_format(LogFormat format);

// Standard error, at once. Errors of writing are dropped, and so is what nobody reads: a message
// never holds the program up. Once messages come through again, the first one says so.
void print_message(std::string_view text, Level level = Level::kInfo);
// The same for what a program ends with: it waits for a reader, but not for long.
void print_last_message(std::string_view text, Level level = Level::kInfo);

// Standard output, at once; waits for its reader.
Status print_output(std::string_view text);
// Standard output; false where its reader leaves no room within `patience`.
Result<bool> print_output_within(std::string_view text, std::chrono::milliseconds patience);

// Prints "program: message" to standard error and returns the code for it: kExitUsage for
// kInvalidArgument, else kExitError.
int fail(std::string_view program, const Status& status);

// For errors of files: the runtime calls a path of the wrong kind an invalid argument, but to the
// caller of a program it is an input error, not wrong usage.
inline Status not_usage(Status status) {
  if (status.code() != Code::kInvalidArgument) return status;
  return Status(Code::kIo, status.message());
}

// What main() does: prepares the process, runs `body` and returns its exit code. Where memory or
// threads cannot be had it says so and returns kExitError.
int run_program(std::string_view program, const std::function<int()>& body);

// kExitOk, or what fail() says.
int finish(std::string_view program, const Status& status);

}  // namespace splitee::tools
