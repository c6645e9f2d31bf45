// Keeps messages about what comes and goes from filling a log: the same one is told once until
// another one comes, and beyond a few at once there is one a second, which says how many were left
// out.
// Thread rule: one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace splitee::tools {

class NoticeLimit {
 public:
  using Clock = std::chrono::steady_clock;

  // The message as it is to be told; nothing where it is left out.
  std::optional<std::string> pass(const std::string& message, Clock::time_point now = Clock::now());

 private:
  static constexpr double kAtOnce = 5;
  static constexpr double kPerSecond = 1;

  std::string last_;
  double may_pass_ = kAtOnce;
  std::optional<Clock::time_point> last_time_;
  std::uint64_t left_out_ = 0;
};

}  // namespace splitee::tools
