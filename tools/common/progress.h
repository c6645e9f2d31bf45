// How far long work has come, on standard error. Where a person watches (a terminal), a line that
// is redrawn ten times a second; else, where it was asked for, a line of its own every ten seconds.
// Thread rule: one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace splitee::tools {

// "[=====     ]  50 %  120 samples, 3 s left" for `done` of `total` units; where the total is
// unknown (0), the count alone.
std::string progress_text(std::uint64_t done, std::uint64_t total, std::uint64_t count,
                          std::string_view what, double seconds);

class Progress {
 public:
  enum class Shown { kNever, kIfWatched, kAlways };

  // `what` is counted: "samples".
  explicit Progress(Shown shown, std::string_view what = "samples");
  // `done` of `total` units (total 0: unknown); `count` is what is shown as a number.
  void update(std::uint64_t done, std::uint64_t total, std::uint64_t count);
  // Clears the line.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;

  std::string what_;
  bool terminal_, shown_;
  std::size_t drawn_ = 0;  // characters on the terminal's line
  Clock::time_point begin_, next_;
};

// Of a command that shows it by itself, and more where it was asked for.
inline Progress::Shown shown_if(bool asked) {
  return asked ? Progress::Shown::kAlways : Progress::Shown::kIfWatched;
}

}  // namespace splitee::tools
