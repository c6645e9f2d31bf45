// What an edge device decides per sample, and what it learns.
//
// Life of a sample:  plan() -> [run layers; at_exit() at each exit that the plan wants] ->
// observe(). Samples may overlap (an offload in flight while the next is planned): everything
// about one sample is in its Plan and its Outcome, so observe() may come late and in any order,
// once per sample; a second outcome for the same plan is refused and counted. Only the at_exit()
// calls of one sample must not be mixed with those of another. episode.h drives one sample.
// Pure: no I/O, no clock; the random generator is seeded by the caller. No allocation after
// construction in plan(), at_exit() and observe().
// Thread rule: one thread at a time.
//
// A policy learns only from what the edge saw of a sample at that moment: the classes and
// confidences of the exits that it evaluated, those of the answer, the cost paid, and feedback that
// the user chose to give. Labels are never used.
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

#include "base/status.h"
#include "policy/cost.h"

namespace splitee::policy {

// Where an offload could go when the sample was planned.
enum class LinkState : std::uint16_t {
  kNone,  // no server configured: a sample that does not exit runs on to the last layer
  kUp,
  kDown,  // configured but not reachable now: as kNone, and nothing is learned from the sample
};

inline constexpr std::size_t kOffloadAtOnce = static_cast<std::size_t>(-1);
inline constexpr std::size_t kAsPlanned = static_cast<std::size_t>(-1);  // as the plan says
inline constexpr std::size_t kNoExit = static_cast<std::size_t>(-1);
inline constexpr std::uint32_t kNoClass = static_cast<std::uint32_t>(-1);  // not known

// Small: copied once per sample.
struct Plan {
  std::size_t arm = 0;  // splitting arm; kOffloadAtOnce sends the input, no layer is run (with no
                        // link up: all are)
  std::uint32_t ticket = 0;    // set by plan(); lets observe() count every sample once
  bool every_exit = false;     // evaluate each exit up to the arm, not only the arm's own
  bool may_end_early = false;  // at an exit before the arm (cascades); else all go on to the arm
  LinkState link = LinkState::kNone;
  // Exit to look at first, where the policy then says at each exit which one comes next (Action);
  // kAsPlanned: every exit up to the arm, or the arm's own, as above. `arm` is then the last.
  std::size_t first = kAsPlanned;
};

// What comes after an exit was looked at.
struct Action {
  enum Kind : std::uint8_t { kContinue, kExit, kOffload };

  Kind kind = kContinue;
  // An audit begins or goes on: the sample runs to the last exit, whatever would have answered it.
  bool audit = false;
  // This exit would have answered, were it not for the audit.
  bool would_answer = false;
  // After kContinue: the exit to look at next; those between are not evaluated.
  std::size_t next = kAsPlanned;

  constexpr Action(Kind what = kContinue) : kind(what) {}
  static constexpr Action run_on_to(std::size_t exit) {
    Action action;
    action.next = exit;
    return action;
  }
  friend constexpr bool operator==(const Action&, const Action&) = default;
};

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
  kAudit,     // answered by the last exit, on the edge, to see what others would have said
};
inline constexpr std::size_t kRouteCount = 5;
std::string_view route_name(Route route);  // "exit", "offload", "fallback", "final", "audit"

// What the edge saw of one sample.
struct Outcome {
  Plan plan;
  Route route = Route::kFinal;
  std::size_t exit_arm = 0;  // arm whose head answered (the last one for offload and fallback)
  // Confidence per arm, NaN where that exit was not evaluated on the edge. Valid during the call.
  std::span<const float> confidence;
  // Class per arm, kNoClass where that exit was not evaluated on the edge, or is not known. Valid
  // during the call; may be empty where no policy asks for it.
  std::span<const std::uint32_t> classes;
  float answer_confidence = 0;  // of the answer given, wherever it came from
  std::uint32_t answer_class = kNoClass;
  std::size_t would_answer = kNoExit;  // audited: the arm that would have answered otherwise
  double cost = 0;                     // really paid, in the unit of lambda
  // The true class, where the user gave it as feedback; kNoClass else. A stream's label is none.
  std::uint32_t feedback = kNoClass;
};

// What "audited" optimises.
enum class Objective : std::uint8_t {
  kDisagreement,  // least cost at max_disagreement with the last exit
  kReward,        // the paper's: confidence of the answer - mu * cost
  kBudget,        // least disagreement at a mean cost
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
  std::size_t first_exit = 1;     // for "threshold": the exit looked at first, from 1
  bool at_once_arm = false;       // "adaptive": the input sent at once is an arm too
  std::size_t patience = 3;       // for "patience": equal predictions in a row before an exit
  double discount = 0.999;        // for "discounted": weight of a sample one sample later
  std::size_t window = 2000;      // for "window": samples remembered
  double change_threshold = 5.0;  // for "restart": reward summed beyond its mean, then an alarm
  Objective objective = Objective::kDisagreement;  // this and the next four: for "audited"
  double max_disagreement = 0.01;  // share of answers that may differ from the last exit's
  double level = 0.95;             // of the bound on that share
  double budget = 0;               // mean cost per sample for kBudget, in CostModel::budget_unit
  // Held-out samples, (samples, arms): confidence of every exit, negative where its class differs
  // from the last exit's.
  std::vector<float> prior_rows;
  std::size_t prior_kinds = 1;  // of samples, that these are a mixture of
  // Of the model that is decided about: a state learned of one is not taken for another one's. 0:
  // there is none, as in a replay.
  std::uint64_t model_hash = 0;
  std::uint64_t seed = 0;
  CostModel costs;

  std::size_t arms() const { return layer_of.size(); }
  std::size_t last_arm() const { return layer_of.size() - 1; }
};

// How far the answers differed from the last exit's, as shares of all samples planned so far. What
// an audited sample would have been answered counts, not the last exit's answer that it got.
struct DisagreementReport {
  double limit = 0;
  std::uint64_t samples = 0, audited = 0;
  double estimate = 0;     // from the audits and the model of answers (a best guess)
  double delivered = 0;    // the same without the audited samples' own
  double upper = 1;        // at most this, at all times at once, with the options' level
  bool certified = false;  // upper <= limit
};

class Policy {
 public:
  virtual ~Policy() = default;
  virtual Plan plan(LinkState link) = 0;

  // Called at each exit that the plan wants, in order, with its probabilities. kContinue at the
  // planned arm, never at the last: the sample runs on to the last exit, as it does where the link
  // is not up; or to the exit that the action names. Probabilities that are not numbers in [0, 1]
  // never lead to an exit before the last.
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
  virtual Status set_costs(const CostModel& costs) = 0;

  // Learned state, complete: a policy restored from it goes on as if never stopped; samples in
  // flight at that moment are forgotten (their outcomes are refused). Format: state.h. It names the
  // costs of now, as set_costs() left them. load_state() refuses other algorithms, models, arms,
  // thresholds or costs than this policy's of now, and damaged bytes, and then leaves the policy as
  // it was.
  virtual std::string save_state() const = 0;
  virtual Status load_state(std::string_view bytes) = 0;
  virtual std::string_view name() const = 0;

  // Of a policy that audits.
  virtual std::optional<DisagreementReport> disagreement() const { return std::nullopt; }
  // After load_state() in another process: coins drawn from now on are not those that a process
  // restored from the same state drew. `entropy`: any number that differs.
  virtual void restarted(std::uint64_t /*entropy*/) {}
};

// An option of policies as data: its flag, its help and the check of its range come from here.
struct OptionInfo {
  std::string_view name;  // of the flag, without its dashes: "policy-window"
  std::string_view help;
  // A number from `low` to `high` (whole where `whole`; not `low` itself where `above_low`); or one
  // of `words`, and then the value is the word's index.
  double low = 0, high = 1;
  bool whole = false, above_low = false;
  std::span<const std::string_view> words{};
  std::string_view unset{};  // the default in words, where the value may be left out (NaN)
  double (*get)(const PolicyOptions&);
  void (*set)(PolicyOptions&, double);
};

// Which exits of a sample a policy looks at.
enum class Looks : std::uint8_t {
  kAtSplit,       // the one at the split that it chose
  kUpToSplit,     // every one up to there
  kAtGivenSplit,  // the one that PolicyOptions::fixed_arm names: the caller must have been told
  kAtLast,        // the last one: every sample runs every layer
  kAtNone,        // none, where the link is up
};

struct PolicyInfo {
  std::string_view name;
  std::string_view summary;  // one line, for --help
  Looks looks = Looks::kAtSplit;
  bool sends = true;               // may send samples to a server; pointless without one: offload
  bool reads_predictions = false;  // looks at ExitReading::prediction
  bool stays_here = false;         // sends no sample whose rest is cheaper on the edge
  bool audits = false;             // runs some samples to the end, with a link or without
  bool state_fits_any_costs = false;            // its state holds no rewards
  std::span<const std::string_view> options{};  // names of those that it reads, of option_list()

  bool every_exit() const { return looks == Looks::kUpToSplit; }
};

// Refuses costs that are not finite or negative, and lambda1 + lambda2 = 0.
Status check_costs(const CostModel& costs);

inline constexpr std::string_view kDefaultPolicy = "audited";

// Policies known to make_policy(), for --help and messages.
std::span<const PolicyInfo> policy_list();
std::span<const std::string_view> policy_names();
// Null for a name that is not known.
const PolicyInfo* find_policy(std::string_view name);
// Every option of every policy, but for the threshold, the split, the costs and the seed, which
// PolicyOptions has for all of them.
std::span<const OptionInfo> option_list();
// "from 0 to 1", "above 0 and at most 1", "one of a, b".
std::string range_text(const OptionInfo& option);
bool in_range(const OptionInfo& option, double value);

// Fails on an unknown name (the message lists the known ones) and on options out of range (the
// message names the option).
Result<std::unique_ptr<Policy>> make_policy(std::string_view name, const PolicyOptions& options);

}  // namespace splitee::policy
