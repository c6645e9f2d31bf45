// Replays a policy on a trace: the same Policy and Session as on the edge, with a trace for a
// network. The replay knows every exit's answer to every sample; the policy is told only what its
// route reveals.
//
// --- semantics ---
// deployable (the default): as policy.h; confidences are floats, as a device has them.
// paper: arm for arm what the scripts published with arXiv 2309.09195 do, in double precision;
// only splitee, splitee-s, threshold and threshold-published have such a form. It differs from
// deployable in this:
//   1. Rewards take gamma_i = lambda * i in both policies (lambda = lambda1 + lambda2). The cost
//      reported is lambda * i for splitee-s, but 0.8 * lambda * (i - 1) + lambda for splitee.
//   2. 0.8 and 0.2 are constants there; lambda1 and lambda2 are not looked at one by one.
//   3. The index is Q/N + c sqrt(ln(t + 1) / N), t = 0 at the first sample, and ln 1 = 0.
//   4. Arm i is tried on sample i before the start; these samples cost nothing, count in no
//      figure, and are met again at the start of the stream.
//   5. splitee-s updates every arm below the split with C_L even where the sample exited.
//   6. best_arm is the argmax of the summed reward (of the mean over runs), not of the mean.
//   7. "threshold" is the corrected ElasticBERT baseline; "threshold-published" answers with the
//      exit after the one that passed, and pays for it.
//   8. The final exit costs lambda * L. (Deployable: lambda1 * L + lambda2.)
//   What each does, measured by bench/policy_departures on the IMDb / Yelp traces of bench/paper
//   (12 exits, alpha 0.70, o = 5 lambda, 20 orders; in bench/RESULTS.md with intervals):
//   1, 2  decisions the same; the cost reported is 0.028 / 0.031 lambda a sample lower (1 to 2 %)
//   3     no accuracy or cost beyond the intervals; regret at 2000 125 / 137, without it 122 / 138
//   4     the same; regret at 2000 without it 130 / 141, which then has the first pulls in it
//   5     splitee-s, regret at 2000: 64 / 66; with known rewards only 57 / 64, whose bias these two
//         streams do not punish (splitee_s.h has one that does)
//   6     the same arm is named
//   7     accuracy 77.98 / 89.67 %, cost 2.47 / 2.44 lambda; corrected 75.12 / 88.71 %, 1.48 / 1.47
//   8     12 lambda against 9.8: the published scale makes any saving look larger
//   all   splitee deployable against published: accuracy +0.3 / +0.1 points, cost +2.4 / +3.5 %,
//         regret at 2000 132 / 151 against 125 / 137
//   Regret is measured against the arm with the best mean reward over the trace, in both.
// Thread rule: pure functions; the trace is shared, read-only.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "policy/policy.h"
#include "policy/trace.h"
#include "runtime/status.h"

namespace splitee::policy {

enum class Order { kShuffled, kFile };
enum class Semantics { kDeployable, kPaper };

// What of the published scripts is kept; for measuring what each departure does. Numbers as above.
struct PaperDepartures {
  bool reported_split = true;    // 1: else splitee reports lambda * i, as it learns
  bool log_from_stream = true;   // 3: else ln of all samples learned from, first pulls included
  bool free_first_pulls = true;  // 4: else they are the stream's first samples, charged and counted
  bool peeks = true;             // 5: else lower arms only where their reward is known
};

struct Decision {
  std::size_t run = 0;
  std::size_t t = 0;  // 0-based position in the run's order
  std::size_t sample = 0;
  std::size_t arm = 0;  // kOffloadAtOnce: none
  Route route = Route::kFinal;
  double reward = 0;
  double cost = 0;  // in lambda
};

// From sample t of each run on, an offload costs this much; the policy is told (set_costs).
struct CostChange {
  std::size_t t = 0;
  double offload = 0;
};

struct ReplayOptions {
  std::string policy;  // policy_names(), "oracle" (the best fixed arm in hindsight), and for
                       // paper semantics "threshold-published"
  // layer_of may be empty: exit i of the trace is then layer i. Its seed is not used.
  PolicyOptions policy_options;
  std::size_t runs = 1;
  std::uint64_t seed = 0;  // orders and policies of all runs
  Order order = Order::kShuffled;
  Semantics semantics = Semantics::kDeployable;
  PaperDepartures departures;       // paper semantics only
  std::vector<CostChange> changes;  // t ascending, from 1; not with paper semantics
  std::function<void(const Decision&)> on_decision;  // may be empty
};

// Mean over runs and half the width of its 95 % interval (Student's t; 0 for one run).
struct Estimate {
  double mean = 0;
  double ci95 = 0;
};

struct RegretPoint {
  std::size_t t = 0;  // samples so far
  Estimate regret;    // sum over them of (reward of the best arm - reward got)
};

struct ReplayResult {
  std::string policy;
  std::size_t samples = 0;
  std::size_t runs = 0;
  std::optional<Estimate> accuracy;  // over samples with a label; none: no label at all
  Estimate cost;                     // lambda per sample
  std::optional<double> final_accuracy;
  double final_cost = 0;      // lambda per sample, all layers and the last exit
  double cost_reduction = 0;  // 1 - cost / final_cost
  Estimate offload_rate;
  std::size_t best_arm = 0;         // 0-based; largest mean reward over the trace
  std::vector<double> mean_reward;  // per arm, over the trace (both before any change of costs)
  std::vector<double> exit_share;   // per arm, of all samples answered there on the edge
  std::vector<RegretPoint> regret;  // t = 1, 2, 5, 10, ..., twentieths of a long stream, the last
  std::uint64_t rejected = 0;       // outcomes that the policies refused
};

// Fails on an unknown policy, options out of range or not fitting the trace, and zero runs.
runtime::Result<ReplayResult> replay(const Trace& trace, const ReplayOptions& options);

}  // namespace splitee::policy
