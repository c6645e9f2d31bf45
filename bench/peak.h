// The arithmetic peak of one core with the instructions of one kernel target: the yardstick of
// kernels_bench.
#pragma once

#include <cstdint>
#include <string_view>

namespace splitee::bench {

// Runs `turns` turns of independent multiply-and-adds, in registers, with the instruction that this
// target's matmul in this arithmetic (f32, bf16, i8) is made of; returns the operations done, two
// for each product, or 0 where the target is unknown. The caller checks that the CPU supports the
// target. "scalar" is measured with the vectors of the compiler's baseline, since the compiler may
// vectorise it.
std::int64_t run_peak(std::string_view target, std::string_view arithmetic, std::int64_t turns);

}  // namespace splitee::bench
