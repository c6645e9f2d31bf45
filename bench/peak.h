// The arithmetic peak of one core with the instructions of one kernel target: the yardstick of
// kernels_bench.
#pragma once

#include <cstdint>
#include <string_view>

namespace splitee::bench {

// Runs `turns` turns of independent multiply-and-adds, in registers, with that target's widest
// vectors; returns the floating-point operations done (2 a lane), or 0 where the target is unknown.
// The caller checks that the CPU supports the target. "scalar" is measured with the vectors of the
// compiler's baseline, since the compiler may vectorise it.
std::int64_t run_peak(std::string_view target, std::int64_t turns);

}  // namespace splitee::bench
