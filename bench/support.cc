#include "bench/support.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "bench/build_info.h"
#include "bench/peak.h"
#include "bench/statistics.h"
#include "kernels/kernels.h"

namespace splitee::bench {
namespace {

constexpr int kRepetitions = 11;
constexpr double kMinSeconds = 0.02;  // of one repetition

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  std::exit(1);
}

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const std::size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown";
}

std::string compiler() {
#ifdef __clang__
  return "clang " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

std::string supported_targets() {
  std::string names;
  for (const kernels::Kernels* target : kernels::compiled_targets()) {
    if (supported(*target)) names.append(names.empty() ? "" : " ").append(target->target);
  }
  return names;
}

}  // namespace

Shapes read_shapes(const std::string& path) {
  std::ifstream file(path);
  if (!file) fail(path + ": cannot be read (--shapes=FILE names another)");
  Shapes shapes;
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    std::istringstream words(line);
    std::string kind;
    if (!(words >> kind) || kind[0] == '#') continue;
    if (kind == "model") {
      ModelShape& model = shapes.models.emplace_back();
      words >> model.name >> model.hidden >> model.ffn >> model.heads;
      if (model.heads == 0 || model.hidden % model.heads != 0) words.setstate(std::ios::failbit);
    } else if (kind == "conv") {
      ConvShape& conv = shapes.convolutions.emplace_back();
      words >> conv.side >> conv.channels >> conv.out >> conv.kernel >> conv.stride;
      if (conv.kernel % 2 == 0 || conv.stride == 0) words.setstate(std::ios::failbit);
    } else if (kind == "map") {
      MapSize& map = shapes.maps.emplace_back();
      words >> map.side >> map.channels;
      if (map.channels == 0) words.setstate(std::ios::failbit);
    } else if (kind == "tokens") {
      for (std::size_t tokens = 0; words >> tokens;) shapes.tokens.push_back(tokens);
      if (words.eof()) words.clear();
    } else {
      words.setstate(std::ios::failbit);
    }
    if (words.fail()) fail(path + ": line " + std::to_string(number) + " is not understood");
  }
  return shapes;
}

std::vector<std::string> take_flag(int& argc, char** argv, const std::string& name) {
  std::string start = "--";
  start.append(name).append("=");
  std::vector<std::string> values;
  char** const end = std::remove_if(argv + 1, argv + argc, [&](const char* argument) {
    const bool found = std::string_view(argument).substr(0, start.size()) == start;
    if (found) values.emplace_back(argument + start.size());
    return found;
  });
  argc = static_cast<int>(end - argv);
  return values;
}

void add_row(const std::string& name, std::function<void(benchmark::State&)> body) {
  using Values = std::vector<double>;
  benchmark::RegisterBenchmark(name.c_str(), std::move(body))
      ->Unit(benchmark::kMicrosecond)
      ->UseRealTime()
      ->MinTime(kMinSeconds)
      ->Repetitions(kRepetitions)
      ->ReportAggregatesOnly(true)
      ->ComputeStatistics("p10", [](const Values& values) { return quantile(values, 0.1); })
      ->ComputeStatistics("p90", [](const Values& values) { return quantile(values, 0.9); });
}

void count_operations(benchmark::State& state, double each, std::string_view dtype,
                      std::string_view target) {
  const double total = each * static_cast<double>(state.iterations());
  state.counters["GFLOPS"] = benchmark::Counter(total * 1e-9, benchmark::Counter::kIsRate);
  const Peak* peak = find_peak(dtype, target);
  if (peak == nullptr) return;
  const double operations_per_second = measure_peak(*peak, 10);
  state.counters["peak_GFLOPS"] = operations_per_second * 1e-9;
  state.counters["of_peak"] =
      benchmark::Counter(total / operations_per_second, benchmark::Counter::kIsRate);
}

int run_benchmarks(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("cpu", cpu_name());
  benchmark::AddCustomContext("targets", supported_targets());
  benchmark::AddCustomContext("compiler", compiler());
  benchmark::AddCustomContext("kernel_flags", SPLITEE_KERNEL_FLAGS);
  benchmark::AddCustomContext("commit", kCommit);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace splitee::bench
