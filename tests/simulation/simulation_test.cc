// Runs scenarios of the simulation, each from its seed.
//   simulation_test [--seeds A..B] [--twice] [--verbose]
//   simulation_test --promises    lists what is promised
// Default: seeds 1 to 500, each 20th twice, to see that it is replayed exactly. A broken promise is
// printed with its seed and the command that shows it again.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "tests/simulation/scenario.h"

namespace {

using splitee::simulation::Report;
using splitee::simulation::run_scenario;

struct Flags {
  std::uint64_t first = 1, last = 500;
  bool twice = false, verbose = false;
};

struct Share {
  std::uint64_t runs = 0, broken = 0;
};

// Chance of at least `hits` in `tries`, each of them with `chance`.
double binomial_tail(std::uint64_t tries, std::uint64_t hits, double chance) {
  const auto n = static_cast<double>(tries);
  double sum = 0;
  for (std::uint64_t i = hits; i <= tries; ++i) {
    const auto k = static_cast<double>(i);
    sum += std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) +
                    k * std::log(chance) + (n - k) * std::log1p(-chance));
  }
  return std::min(1.0, sum);
}

// I12. The certificates' levels allow some to be wrong: not one run can break this promise, all of
// them together can.
bool certificates_hold(const std::map<double, Share>& shares) {
  constexpr double kNever = 1e-3;
  bool hold = true;
  for (const auto& [level, share] : shares) {
    const bool holds = binomial_tail(share.runs, share.broken, 1 - level) > kNever;
    std::printf("%sbounds of level %.2f: %llu of %llu overstepped\n",
                holds ? "" : "seeds: I12: ", level, static_cast<unsigned long long>(share.broken),
                static_cast<unsigned long long>(share.runs));
    hold = hold && holds;
  }
  return hold;
}

void tell_broken(const char* program, std::uint64_t seed, const char* why) {
  const auto number = static_cast<unsigned long long>(seed);
  std::printf("seed %llu: %s\n  again: %s --seeds %llu..%llu --verbose\n", number, why, program,
              number, number);
}

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
  if (argc == 2 && std::string(argv[1]) == "--promises") {
    for (const auto& [name, words] : splitee::simulation::kPromises) {
      std::printf("| %.*s | %.*s |\n", static_cast<int>(name.size()), name.data(),
                  static_cast<int>(words.size()), words.data());
    }
    return 0;
  }
  Flags flags;
  if (!parse(argc, argv, flags)) {
    std::fprintf(stderr,
                 "usage: simulation_test [--seeds A..B] [--twice] [--verbose], or --promises\n");
    return 2;
  }
  const auto begin = std::chrono::steady_clock::now();
  Report sum;
  std::uint64_t broken = 0;
  std::map<double, Share> shares;
  for (std::uint64_t seed = flags.first; seed <= flags.last; ++seed) {
    const Report report = run_scenario(seed, flags.verbose);
    if (flags.twice || seed % 20 == 0) {
      const Report again = run_scenario(seed, false);
      if (again.digest != report.digest || again.events != report.events) {
        tell_broken(argv[0], seed, "not the same twice");
        ++broken;
      }
    }
    if (!report.broken.empty()) {
      tell_broken(argv[0], seed, report.broken.c_str());
      ++broken;
    }
    for (const auto& certificate : report.certificates) {
      Share& share = shares[certificate.level];
      ++share.runs;
      share.broken += certificate.broken ? 1 : 0;
    }
    sum.idle_us += report.idle_us;
    sum.restarts += report.restarts;
    sum.upgrades += report.upgrades;
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
  const bool hold = certificates_hold(shares);
  constexpr double kHour = 3.6e9, kYear = 365.25 * 24 * kHour;
  std::printf(
      "%llu seeds, %llu broken: %.3f simulated years, %.1f hours of them with traffic; %llu "
      "events, %llu faults, %llu releases, %llu states restored, %llu records (%llu offloaded, "
      "%llu fallbacks), %llu requests executed, in %.1f s\n",
      count(flags.last - flags.first + 1), count(broken),
      static_cast<double>(sum.simulated_us) / kYear,
      static_cast<double>(sum.simulated_us - sum.idle_us) / kHour, count(sum.events),
      count(sum.faults), count(sum.upgrades), count(sum.restarts), count(sum.records),
      count(sum.offloads), count(sum.fallbacks), count(sum.executed), took.count());
  return broken == 0 && hold ? 0 : 1;
}
