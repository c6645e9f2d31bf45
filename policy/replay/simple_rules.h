// Simple rules in hindsight: what a trace's exits would have cost, and how far they would have
// differed from the last one, under rules with at most two numbers. The ruler of a replay.
//
// The class: run everything; always exit k; send the input at once; from exit k on, the first exit
// that is as sure as a threshold, else the last; one look at exit k, and what is not sure there is
// run to the last exit or sent. Thresholds are quantiles of the confidences.
// Thread rule: pure functions.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/policy.h"
#include "policy/replay/trace.h"

namespace splitee::policy {

struct SimpleRule {
  std::string_view name;  // "final", "exit", "offload", "threshold", "look", "split"
  std::size_t exit = 0;   // arm looked at first; of all but "final" and "offload"
  float threshold = 0;    // of the last three
  double disagreement = 0;
  double cost = 0;  // lambda a sample
};

// "from layer 3 on, sure at 0.93", for people.
std::string to_text(const SimpleRule& rule, std::span<const std::size_t> layer_of);

// Every rule of the class on the whole trace, at the options' costs. Sending costs the same from
// every layer but where the costs say otherwise. `server`: whether anything can be sent.
std::vector<SimpleRule> simple_rules(const Trace& trace, const PolicyOptions& options, bool server);

// Those on the lower convex hull, by ascending disagreement.
std::vector<SimpleRule> lower_hull(std::vector<SimpleRule> rules);

// The cheapest of those that differ at most so much; "final" always does. `rules` must not be
// empty.
const SimpleRule& cheapest(std::span<const SimpleRule> rules, double disagreement);

}  // namespace splitee::policy
