// Runs a load against servers, open loop: requests leave at times drawn beforehand, whether or not
// earlier ones were answered, and latency counts from the time a request should have left. So a
// server that stalls is charged for all that would have come meanwhile (no coordinated omission).
// Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tools/common/latency_histogram.h"
#include "transport/client/swarm.h"

namespace splitee::tools {

struct LoadPlan {
  double rate = 100;           // requests a second, all connections together
  double seconds = 5;          // measured
  double warm_up_seconds = 1;  // sent before, not counted
  bool poisson = true;         // exponential gaps; else equal ones
  double flood = 1;            // connection 0 sends so many times what each other sends
  std::vector<std::uint64_t> deadlines_us{200'000};  // a request has one of them, at random
  std::uint64_t told_deadline_us = 0;                // what servers are told; 0: the same
  std::uint64_t seed = 1;
  std::size_t connections = 1;
  std::size_t samples = 1;
  // Several times a second, with the microseconds since the beginning and those of all; false ends
  // the run there. May be empty.
  std::function<bool(std::int64_t, std::int64_t)> go_on;
};

// Of the requests with one deadline.
struct DeadlineResult {
  std::uint64_t deadline_us = 0, intended = 0, good = 0;
  LatencyHistogram answered_us;
};

struct LoadResult {
  std::uint64_t intended = 0;                    // requests due in the measured time
  std::uint64_t unsent = 0;                      // that ZeroMQ had no room for
  std::uint64_t good = 0;                        // answered within the deadline
  std::uint64_t late = 0;                        // answered after it
  std::uint64_t lost = 0;                        // sent, never answered
  std::map<std::string, std::uint64_t> refused;  // by the refusal's words
  double seconds = 0;
  bool stopped = false;  // before its end
  LatencyHistogram answered_us, shed_us, server_us;
  LatencyHistogram lag_us;               // of sending behind the plan
  LatencyHistogram flood_us, others_us;  // answers to connection 0, to the others
  std::vector<std::uint64_t> good_of;    // by connection
  std::vector<DeadlineResult> by_deadline;

  std::uint64_t sheds() const;
  // Jain's fairness index of good_of: 1 where all have the same.
  double fairness() const;
};

LoadResult run_load(transport::Swarm& swarm, const LoadPlan& plan);

}  // namespace splitee::tools
