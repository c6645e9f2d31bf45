// One run of the simulation: a seed makes the hosts, the paths, the faults, the releases that are
// rolled out and the nights between, in which nothing is asked and the clock leaps. After the last
// fault everything heals, and the system must be as good as new.
//
// kPromises is the list of what is checked: after every event, at the end of each day, or, where it
// speaks of shares, over all seeds. tests/README.md has the same list.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace splitee::simulation {

struct Promise {
  std::string_view name, words;
};

inline constexpr Promise kPromises[] = {
    {"I1", "every request ends once, by its deadline; late work is not done"},
    {"I2", "an answer goes to its request only"},
    {"I3", "each outcome changes a policy once"},
    {"I4", "a policy's numbers stay finite, and its pulls are its updates"},
    {"I5", "what a server keeps is bounded, in requests and in bytes"},
    {"I6", "no answer of another model"},
    {"I7", "a policy's state is taken whole or not at all, and none older than the last one saved"},
    {"I8", "at the end, with all faults healed, every edge is served again"},
    {"I9", "a peer that was not welcomed, or speaks another version, has no request answered"},
    {"I10", "a state that is restored again draws other coins"},
    {"I11", "what edges and servers keep in the evening does not grow from day to day"},
    {"I12", "more answers differ than `upper` allows in no larger share of runs than 1 - level"},
};

// Of an edge whose policy tells how many of its answers can have differed at most.
struct Certificate {
  double level = 0;
  bool broken = false;  // at some time
};

struct Report {
  std::string broken;  // empty: every promise was kept
  std::uint64_t digest = 0, events = 0;
  std::int64_t simulated_us = 0, idle_us = 0;  // idle: of the former, the nights
  std::uint64_t records = 0, offloads = 0, fallbacks = 0, faults = 0, executed = 0;
  std::uint64_t restarts = 0, upgrades = 0;
  std::vector<Certificate> certificates;
};

Report run_scenario(std::uint64_t seed, bool verbose);

}  // namespace splitee::simulation
