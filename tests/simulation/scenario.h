// One run of the simulation: a seed makes the hosts, the paths and the faults; then everything
// heals, and the system must be as good as new.
//
// Checked after every event: I1 every request ends once, by its deadline; I2 an answer goes to its
// request only; I3 each outcome changes a policy once; I4 a policy's numbers stay finite and its
// pulls are its updates; I5 what a server keeps is bounded; I6 no answer of another model; I7 a
// policy's state is taken whole or not at all. At the end, I8: with all faults healed, every edge
// is served again within ten seconds.
#pragma once

#include <cstdint>
#include <string>

namespace splitee::simulation {

struct Report {
  std::string broken;  // empty: every promise was kept
  std::uint64_t digest = 0, events = 0;
  std::int64_t simulated_us = 0;
  std::uint64_t records = 0, offloads = 0, fallbacks = 0, faults = 0, executed = 0;
};

Report run_scenario(std::uint64_t seed, bool verbose);

}  // namespace splitee::simulation
