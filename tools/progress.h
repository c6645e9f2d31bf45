// A progress line on standard error, redrawn ten times a second: a bar where the input's size is
// known, a count where it is not.
// Thread rule: one thread at a time.
#pragma once

#include <chrono>
#include <cstdint>

namespace splitee::tools {

class Progress {
 public:
  explicit Progress(bool shown) : shown_(shown) {}
  // `done` of `total` units (total 0: unknown); `samples` for the count.
  void update(std::uint64_t done, std::uint64_t total, std::uint64_t samples);
  // Clears the line.
  void finish();

 private:
  bool shown_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace splitee::tools
