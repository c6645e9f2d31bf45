// What the benchmark programs share: shapes from a list file, rows with medians, p10 and p90, and
// counters that set a row beside the machine's peak, measured just before it.
// Thread rule: one thread. Errors: a message on standard error and exit status 1.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <benchmark/benchmark.h>

namespace splitee::bench {

struct ModelShape {
  std::string name;
  std::size_t hidden = 0;
  std::size_t ffn = 0;
  std::size_t heads = 0;
};

// Of a convolution on a square map.
struct ConvShape {
  std::size_t side = 0, channels = 0, out = 0, kernel = 0, stride = 0;
};
struct MapSize {
  std::size_t side = 0, channels = 0;
};

struct Shapes {
  std::vector<ModelShape> models;
  std::vector<ConvShape> convolutions;
  std::vector<MapSize> maps;
  std::vector<std::size_t> tokens;
};

// Reads a file like bench/shapes.txt.
Shapes read_shapes(const std::string& path);

// Takes --NAME=VALUE out of the arguments: every VALUE, in order.
std::vector<std::string> take_flag(int& argc, char** argv, const std::string& name);

// Registers a row that is repeated until its median, p10 and p90 mean something.
void add_row(const std::string& name, std::function<void(benchmark::State&)> body);

// To be called after the timed loop: `each` operations an iteration give GFLOPS (10^9 operations a
// second), and beside it peak_GFLOPS of one core for that number format (f32, bf16, i8) and kernel
// target, and of_peak.
void count_operations(benchmark::State& state, double each, std::string_view dtype,
                      std::string_view target);

// Runs what is registered, under a header of CPU, compiler, flags and commit. The exit status.
int run_benchmarks(int argc, char** argv);

}  // namespace splitee::bench
