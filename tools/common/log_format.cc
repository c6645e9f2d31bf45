#include "tools/common/log_format.h"

#include <ctime>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace splitee::tools {
namespace {

constexpr const char* kLevels[] = {"info", "warning", "error"};

// RFC 3339, UTC, in milliseconds.
std::string time_text(std::chrono::system_clock::time_point time) {
  using std::chrono::milliseconds;
  const auto since = std::chrono::duration_cast<milliseconds>(time.time_since_epoch()).count();
  const std::time_t seconds = since / 1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                     since % 1000);
}

std::string_view without_program(std::string_view text, std::string_view program) {
  if (!text.starts_with(program)) return text;
  const std::string_view rest = text.substr(program.size());
  return rest.starts_with(": ") ? rest.substr(2) : text;
}

std::string json_line(const std::string& time, const char* level, std::string_view program,
                      std::string_view message) {
  using Json = nlohmann::ordered_json;
  const Json line = {{"time", time}, {"level", level}, {"program", program}, {"message", message}};
  return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string log_line(LogFormat format, std::chrono::system_clock::time_point time, Level level,
                     std::string_view program, std::string_view text) {
  if (format == LogFormat::kPlain || !text.ends_with('\n')) return std::string(text);
  std::string_view message = without_program(text, program);
  message.remove_suffix(1);
  const char* word = kLevels[static_cast<std::size_t>(level)];
  if (format == LogFormat::kJson) return json_line(time_text(time), word, program, message);
  return fmt::format("{} {} {}: {}\n", time_text(time), word, program, message);
}

}  // namespace splitee::tools
