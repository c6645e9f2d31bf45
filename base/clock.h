// Monotonic time for measurements.
#pragma once

#include <chrono>
#include <cstdint>

namespace splitee {

class Stopwatch {
 public:
  std::int64_t elapsed_us() const {
    return std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start_).count();
  }
  double elapsed_exact_us() const {
    return std::chrono::duration<double, std::micro>(Clock::now() - start_).count();
  }
  double elapsed_seconds() const {
    return std::chrono::duration<double>(Clock::now() - start_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

}  // namespace splitee
