// The factored learner (factored.h) with a threshold per exit that it chooses itself.
//
// With calibrated confidences (calibration.h) C_j is the probability that exit j is right, and
// E[C_L | C_j] that the last exit is, so that the expected reward is accuracy less mu times cost.
// At a split j the better of the two actions is then known from C_j = c alone:
//   exit iff   c  >=  E[C_L | C_j = c] - mu * (miss_j - gamma_j)            (expected reward)
//         and  c  >=  the floor of exit j                                   (accuracy)
// The floor is PolicyOptions::exit_alphas (alpha where there are none): the least confidence at
// which labelled data vouch for the exit. It is needed since reward alone sells accuracy for cost:
// at o = 0.5 a saved offload outweighs any loss of confidence. So thresholds per exit are as low as
// accuracy allows while an offload is dear, and rise where it is cheap.
//
// E[C_L | C_j = c] is learned for kBins stretches of c between the floor and 1, and one below it.
// What action a sample gets at its split depends on its stretch and on what was learned before, on
// nothing else of the sample: within a stretch, the samples split at j that reveal C_L are not
// selected, nor are those split at the last layer. Others are not used (see splitee_s.h). Too few
// observations count as the best conceivable, C_L = 1, by the bonus of an upper confidence bound,
// so that only confidences below 1 - mu * (miss_j - gamma_j) are ever tried.
//
// Arm j's expected reward: the sum over stretches of their share times the better action's reward.
// Index, ceiling and constants as in factored.h, V_j being
//   var(reward by stretch) / n_j + sum over offloading stretches of share^2 var(C_L) / (m + w).
//
// Learned state: per arm and stretch f64 number, sum, sum of squares of C_j, then of C_L; the same
// of C_L over all; f64 t, offloads, offloads lost.
#pragma once

#include <memory>

#include "policy/policy.h"

namespace splitee::policy {

std::unique_ptr<Policy> make_factored_alpha(const PolicyOptions& options);

}  // namespace splitee::policy
