// What a server tells its operator, each text rarely: a peer that does the same thing wrong again
// and again must not fill a log. Thread rule: safe from any thread. Times are microseconds of one
// monotonic clock.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>

namespace splitee::transport {

class Notices {
 public:
  static constexpr std::int64_t kAgainUs = 600'000'000;  // the same text
  static constexpr std::int64_t kRefillUs = 10'000'000;  // for one more text
  static constexpr int kAtOnce = 8;
  static constexpr std::size_t kMostKept = 256;

  explicit Notices(std::function<void(const std::string&)> out) : out_(std::move(out)) {}

  void tell(const std::string& text, std::int64_t now_us) {
    if (out_ && is_due(text, now_us)) out_(text);
  }

 private:
  bool is_due(const std::string& text, std::int64_t now_us) {
    const std::lock_guard lock(mutex_);
    const auto it = told_us_.find(text);
    if (it != told_us_.end() && now_us - it->second < kAgainUs) return false;
    for (; left_ < kAtOnce && now_us - refilled_us_ >= kRefillUs; ++left_) {
      refilled_us_ = left_ + 1 == kAtOnce ? now_us : refilled_us_ + kRefillUs;
    }
    if (left_ == 0) return false;
    if (left_-- == kAtOnce) refilled_us_ = now_us;
    if (told_us_.size() >= kMostKept) told_us_.clear();
    told_us_[text] = now_us;
    return true;
  }

  const std::function<void(const std::string&)> out_;
  std::mutex mutex_;
  std::map<std::string, std::int64_t> told_us_;
  int left_ = kAtOnce;
  std::int64_t refilled_us_ = 0;  // when the last of them came back
};

}  // namespace splitee::transport
