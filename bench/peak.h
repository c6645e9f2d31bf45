// The limits of one core of this machine, measured: operations a second per instruction set and
// number format, and bytes a second read from caches and memory. The yardstick of every benchmark.
// Thread rule: re-entrant functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace splitee::bench {

struct Peak {
  std::string_view name;  // what is multiplied and with which instruction
  bool (*supported)();    // by this CPU
  // Independent multiply-and-adds in registers; returns the operations done, two per product.
  std::int64_t (*run)(std::int64_t turns);
};

// All that exist for this architecture.
std::span<const Peak> peaks();

// What a kernel target (its word in kernels.h) can reach with matrices of that type (f32, f16,
// bf16, i8); null where it is not known or not supported. "scalar" has the vectors of the
// compiler's baseline, since the compiler may vectorise it.
const Peak* find_peak(std::string_view dtype, std::string_view target);

// Operations a second of CPU time: the best of `runs` runs of about half a millisecond.
double measure_peak(const Peak& peak, int runs = 40);

// Bytes a second that `threads` threads read together, each its own buffer of `bytes` again and
// again: the best of several runs.
double measure_read(std::size_t bytes, std::size_t threads = 1);

}  // namespace splitee::bench
