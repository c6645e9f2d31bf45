// What an edge device decides per sample, and what it learns.
//
// Life of a sample:  plan() -> [run layers; at_exit() at each exit that the plan wants] ->
// observe(). Samples may overlap (an offload in flight while the next is planned): everything
// about one sample is in its Plan and its Outcome, so observe() may come late and in any order,
// once per sample; a second outcome for the same plan is refused and counted. Only the at_exit()
// calls of one sample must not be mixed with those of another. session.h drives one sample.
// Pure: no I/O, no clock; the random generator is seeded by the caller. No allocation after
// construction in plan(), at_exit() and observe().
// Thread rule: one thread at a time.
//
// A policy learns only from what the edge saw of a sample at that moment: the confidences of the
// exits that it evaluated, the confidence of the answer, and the cost paid. Labels are never used.
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
enum class Link : std::uint16_t {
  kNone,  // no server configured: a sample that does not exit runs on to the last layer
  kUp,
  kDown,  // configured but not reachable now: as kNone, and nothing is learned from the sample
};

inline constexpr std::size_t kOffloadAtOnce = static_cast<std::size_t>(-1);

// Two registers wide, without padding: copied once per sample.
struct Plan {
  std::size_t arm = 0;  // splitting arm; kOffloadAtOnce sends the input, no layer is run (with no
                        // link up: all are)
  std::uint32_t ticket = 0;    // set by plan(); lets observe() count every sample once
  bool every_exit = false;     // evaluate each exit up to the arm, not only the arm's own
  bool may_end_early = false;  // at an exit before the arm (cascades); else all go on to the arm
  Link link = Link::kNone;
};

enum class Action { kContinue, kExit, kOffload };

// What one exit said. `confidence` is the largest probability, NaN if any of them is not a number
// in [0, 1]. `probabilities` may be empty (a replayed trace keeps none).
struct ExitReading {
  float confidence = 0;
  std::size_t prediction = 0;  // class with the largest probability, the lowest on a tie
  std::size_t classes = 0;
  std::span<const float> probabilities;
};
ExitReading read_exit(std::span<const float> probabilities);

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
  // For "factored-alpha": the least confidence at which exit i may answer, in (0, 1]. Empty: alpha.
  std::vector<double> exit_alphas;
  std::size_t fixed_arm = 0;  // for "fixed"
  double exploration = 1.0;   // c of UCB1
  // For "entropy": exit below this normalised entropy (0 .. 1). Without it: the entropy of a
  // distribution whose largest probability is alpha and whose others are equal.
  std::optional<double> entropy_threshold;
  bool at_once_arm = false;       // "adaptive": the input sent at once is an arm too
  std::size_t patience = 3;       // for "patience": equal predictions in a row before an exit
  double discount = 0.999;        // for "discounted": weight of a sample one sample later
  std::size_t window = 2000;      // for "window": samples remembered
  double change_threshold = 5.0;  // for "restart": reward summed beyond its mean, then an alarm
  std::uint64_t seed = 0;
  CostModel costs;

  std::size_t arms() const { return layer_of.size(); }
  std::size_t last_arm() const { return layer_of.size() - 1; }
};

class Policy {
 public:
  virtual ~Policy() = default;
  virtual Plan plan(Link link) = 0;

  // Called at each exit that the plan wants, in order, with its probabilities. kContinue at the
  // planned arm, never at the last: the sample runs on to the last exit, as it does where the link
  // is not up. Probabilities that are not numbers in [0, 1] never lead to an exit before the last.
  Action at_exit(const Plan& plan, std::size_t arm, std::span<const float> probabilities) {
    return decide(plan, arm, read_exit(probabilities));
  }
  // The same for a caller that has read the exit already.
  virtual Action decide(const Plan& plan, std::size_t arm, const ExitReading& reading) = 0;

  // Takes any outcome: one that is malformed, was seen already, or holds a confidence outside
  // [0, 1] or a cost that is not finite changes nothing but rejected().
  virtual void observe(const Outcome& outcome) = 0;
  virtual std::uint64_t rejected() const = 0;

  // The costs from now on, as measured. "factored" re-computes every arm's reward under them;
  // policies that keep sums of rewards go on from the old ones. Not part of the saved state.
  // Fails on costs out of range, and then keeps the old ones.
  virtual runtime::Status set_costs(const CostModel& costs) = 0;

  // Learned state, complete: a policy restored from it goes on as if never stopped; samples in
  // flight at that moment are forgotten (their outcomes are refused). Format: state.h. It names the
  // costs of now, as set_costs() left them. load_state() refuses other algorithms, arms, thresholds
  // or costs than this policy's of now, and damaged bytes, and then leaves the policy as it was.
  virtual std::string save_state() const = 0;
  virtual runtime::Status load_state(std::string_view bytes) = 0;
  virtual std::string_view name() const = 0;
};

struct PolicyInfo {
  std::string_view name;
  std::string_view summary;        // one line, for --help
  bool every_exit = false;         // evaluates every exit up to the split
  bool reads_predictions = false;  // looks at ExitReading::prediction
  bool stays_here = false;         // sends no sample whose rest is cheaper on the edge
};

// Refuses costs that are not finite or negative, and lambda1 + lambda2 = 0.
runtime::Status check_costs(const CostModel& costs);

// Policies known to make_policy(), for --help and messages.
std::span<const PolicyInfo> policy_list();
std::span<const std::string_view> policy_names();

// Fails on an unknown name (the message lists the known ones) and on options out of range (the
// message names the option).
runtime::Result<std::unique_ptr<Policy>> make_policy(std::string_view name,
                                                     const PolicyOptions& options);

}  // namespace splitee::policy
