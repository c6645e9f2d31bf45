// Runs scenarios of the simulation, each from its seed.
//   simulation_test [--seeds A..B] [--twice] [--verbose]
// Default: seeds 1 to 500, each 20th twice, to see that it is replayed exactly. A broken promise is
// printed with its seed; --seeds N..N --verbose then shows what happened.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/simulation/scenario.h"

namespace {

using splitee::simulation::Report;
using splitee::simulation::run_scenario;

struct Flags {
  std::uint64_t first = 1, last = 500;
  bool twice = false, verbose = false;
};

bool parse(int argc, char** argv, Flags& flags) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--twice") {
      flags.twice = true;
    } else if (word == "--verbose") {
      flags.verbose = true;
    } else if (word == "--seeds" && ++i < argc) {
      char* end = nullptr;
      flags.first = std::strtoull(argv[i], &end, 10);
      if (std::string(end).rfind("..", 0) != 0) return false;
      flags.last = std::strtoull(end + 2, &end, 10);
      if (*end != '\0' || flags.last < flags.first) return false;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  Flags flags;
  if (!parse(argc, argv, flags)) {
    std::fprintf(stderr, "usage: simulation_test [--seeds A..B] [--twice] [--verbose]\n");
    return 2;
  }
  const auto begin = std::chrono::steady_clock::now();
  Report sum;
  std::uint64_t broken = 0;
  for (std::uint64_t seed = flags.first; seed <= flags.last; ++seed) {
    const Report report = run_scenario(seed, flags.verbose);
    if (flags.twice || seed % 20 == 0) {
      const Report again = run_scenario(seed, false);
      if (again.digest != report.digest || again.events != report.events) {
        std::printf("seed %llu: not the same twice\n", static_cast<unsigned long long>(seed));
        ++broken;
      }
    }
    if (!report.broken.empty()) {
      std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed), report.broken.c_str());
      ++broken;
    }
    sum.events += report.events;
    sum.simulated_us += report.simulated_us;
    sum.records += report.records;
    sum.offloads += report.offloads;
    sum.fallbacks += report.fallbacks;
    sum.faults += report.faults;
    sum.executed += report.executed;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  const auto count = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
  std::printf(
      "%llu seeds, %llu broken: %.1f simulated hours, %llu events, %llu faults, %llu records "
      "(%llu offloaded, %llu fallbacks), %llu requests executed, in %.1f s\n",
      count(flags.last - flags.first + 1), count(broken),
      static_cast<double>(sum.simulated_us) / 3.6e9, count(sum.events), count(sum.faults),
      count(sum.records), count(sum.offloads), count(sum.fallbacks), count(sum.executed),
      took.count());
  return broken == 0 ? 0 : 1;
}
