#include "tools/common/notices.h"

#include <algorithm>

#include <fmt/format.h>

namespace splitee::tools {

std::optional<std::string> NoticeLimit::pass(const std::string& message, Clock::time_point now) {
  if (message == last_) return std::nullopt;
  const std::chrono::duration<double> passed = now - last_time_.value_or(now);
  may_pass_ = std::min(kAtOnce, may_pass_ + kPerSecond * passed.count());
  last_time_ = now;
  if (may_pass_ < 1) {
    ++left_out_;
    return std::nullopt;
  }
  may_pass_ -= 1;
  last_ = message;
  if (left_out_ == 0) return message;
  const std::string text =
      fmt::format("{} ({} notices before it were left out)", message, left_out_);
  left_out_ = 0;
  return text;
}

}  // namespace splitee::tools
