// How a message is laid out as a line of a log.
// Thread rule: free functions, re-entrant.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace splitee::tools {

enum class Level { kInfo, kWarning, kError };
enum class LogFormat {
  kPlain,  // the message alone
  kText,   // "2026-01-31T12:00:00.000Z warning splitee-edge: message"
  kJson,   // {"time": the same, "level", "program", "message"}
};

// `text` is one message, with or without its end of line and its "PROGRAM: "; what is no whole line
// (of a progress bar) stays as it is, and so does everything where the format is kPlain.
std::string log_line(LogFormat format, std::chrono::system_clock::time_point time, Level level,
                     std::string_view program, std::string_view text);

}  // namespace splitee::tools
