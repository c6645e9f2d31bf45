// Replays a policy on a trace: the same Policy and EpisodeRunner as on the edge, with a trace for a
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
//   Regret is measured against the arm with the best mean reward over the trace, in both: one
//   oracle for all policies, which pays one head at its split and sends what is not sure there
//   (with no server: runs on), whatever the policy replayed does.
// Thread rule: pure functions; the trace is shared, read-only.
#pragma once

#include <span>

#include "base/status.h"
#include "policy/policy.h"
#include "policy/replay/replay_types.h"
#include "policy/replay/trace.h"

namespace splitee::policy {

// Names that replay() knows besides those of policy_list().
std::span<const PolicyInfo> replay_only_list();

// Fails on an unknown policy, options out of range or not fitting the trace, and zero runs.
Result<ReplayResult> replay(const Trace& trace, const ReplayOptions& options);

}  // namespace splitee::policy
