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
  std::string_view name;                    // for instance "int8 avx512 vpdpbusd"
  std::string_view dtype;                   // f32, bf16 or i8: what is multiplied
  std::string_view target;                  // kernel target whose vectors these are
  bool (*supported)();                      // by this CPU
  std::int64_t (*run)(std::int64_t turns);  // independent multiply-and-adds in registers; returns
                                            // the operations done (2 per pair multiplied)
};

// All that exist for this architecture; for a target and a dtype the fastest comes first.
std::span<const Peak> peaks();

// The fastest supported one; null where there is none. "scalar" has the vectors of the compiler's
// baseline, since the compiler may vectorise it.
const Peak* find_peak(std::string_view dtype, std::string_view target);

// Operations a second of CPU time: the best of `runs` runs of about half a millisecond.
double measure_peak(const Peak& peak, int runs = 40);

// Bytes a second that `threads` threads read together, each its own buffer of `bytes` again and
// again: the best of several runs.
double measure_read(std::size_t bytes, std::size_t threads = 1);

}  // namespace splitee::bench
