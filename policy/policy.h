// What an edge device decides per sample, and what it learns.
//
// Life of a sample:  plan() -> [run layers; at_exit() at each exit that the plan wants] ->
// observe(). Samples may overlap (an offload in flight while the next is planned): everything
// about one sample is in its Plan and its Outcome, so observe() may come late and in any order,
// exactly once per sample.
// Pure: no I/O, no clock; the random generator is seeded by the caller. No allocation after
// construction in plan(), at_exit() and observe().
// Thread rule: one thread at a time.
//
// An arm is an exit of the network, 0-based here (arm a = exit a at layer_of(a)); the printed
// forms are 1-based layers.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/cost.h"
#include "runtime/status.h"

namespace splitee::policy {

// Where an offload could go when the sample was planned.
enum class Link {
  kNone,  // no server configured: a sample that does not exit runs on to the last layer
  kUp,
  kDown,  // configured but not reachable now: as kNone, and nothing is learned from the sample
};

inline constexpr std::size_t kOffloadAtOnce = static_cast<std::size_t>(-1);

struct Plan {
  std::size_t arm = 0;      // splitting arm; kOffloadAtOnce sends the input, no layer is run
  bool every_exit = false;  // evaluate each exit up to the arm, not only the arm's own
  Link link = Link::kNone;
};

enum class Action { kContinue, kExit, kOffload };

enum class Route {
  kExit,      // answered by an exit at or before the split
  kOffload,   // answered by the server
  kFallback,  // meant for the server, finished on the edge after the link failed
  kFinal,     // answered by the last exit, on the edge, as planned (or for want of a server)
};
std::string_view route_name(Route route);  // "exit", "offload", "fallback", "final"

// What the edge saw of one sample.
struct Outcome {
  Plan plan;
  Route route = Route::kFinal;
  std::size_t exit_arm = 0;  // arm whose head answered (the last one for offload and fallback)
  // Confidence per arm, NaN where that exit was not evaluated on the edge. Valid during the call.
  std::span<const float> confidence;
  float answer_confidence = 0;  // of the answer given, wherever it came from
  double cost = 0;              // really paid, in the unit of lambda
};

struct PolicyOptions {
  std::vector<std::size_t> layer_of;  // layer of each arm, ascending, last = the network's last
  double alpha = 0.9;                 // exit threshold on confidence
  std::size_t fixed_arm = 0;          // for "fixed"
  double exploration = 1.0;           // c of UCB1
  std::uint64_t seed = 0;
  CostModel costs;
};

class Policy {
 public:
  virtual ~Policy() = default;
  virtual Plan plan(Link link) = 0;
  // Called at each exit that the plan wants, in order, with its probabilities. The last call of a
  // sample (at the planned arm) never answers kContinue unless the plan's link is not up and the
  // arm is not the last: then the sample runs on to the last exit.
  virtual Action at_exit(const Plan& plan, std::size_t arm,
                         std::span<const float> probabilities) = 0;
  virtual void observe(const Outcome& outcome) = 0;

  // Learned state, complete: a policy restored from it goes on as if never stopped.
  // load_state() refuses other algorithms, arms, thresholds or costs, and damaged bytes, and then
  // leaves the policy as it was.
  virtual std::string save_state() const = 0;
  virtual runtime::Status load_state(std::string_view bytes) = 0;
  virtual std::string_view name() const = 0;
};

// Names known to make_policy(), for --help and messages.
std::span<const std::string_view> policy_names();
runtime::Result<std::unique_ptr<Policy>> make_policy(std::string_view name,
                                                     const PolicyOptions& options);

}  // namespace splitee::policy
