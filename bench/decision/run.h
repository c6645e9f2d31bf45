// One run of a policy over a stream: what it paid, how often its answers differed, what its bound
// said. Thread rule: pure functions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "bench/decision/ruler.h"
#include "policy/policy.h"

namespace splitee::bench {

struct Part {
  std::size_t samples = 0;
  double cost = 0, audits = 0;  // lambda, sums; `audits`: paid beyond what the rule itself cost
  double differing = 0;         // would-be answers
  Point mean() const {
    const double count = samples > 0 ? static_cast<double>(samples) : 1.0;
    return {differing / count, cost / count};
  }
};

struct RunResult {
  Part whole, second, late;   // late: from sample 5,000 on, or the second half of a shorter stream
  bool over = false;          // more than E at some time from max(1,000, 25 / E) on
  bool bound_broken = false;  // `upper` below the truth at some time looked at
  double upper = 1.0;         // at the end
  std::uint64_t audited = 0;
  std::uint64_t first_alarm = 0;  // sample from which a fifth of 100 was audited; 0: never
};

// Sample from which a run is held to have kept E since its start.
inline double held_from(double limit) {
  return limit > 0 ? std::max(1000.0, 25.0 / limit) : 1000.0;
}

policy::PolicyOptions options_for(const Stream& stream, const Prices& prices, double limit,
                                  std::uint64_t seed);

// `order`: samples of the stream, in the order that they come. `watch_from`: sample from which
// first_alarm is looked for.
RunResult run(const Stream& stream, const Prices& prices, const std::string& policy,
              const policy::PolicyOptions& options, std::span<const std::uint32_t> order,
              std::size_t watch_from = 0);

}  // namespace splitee::bench
