// The learner for measured costs, which may be many times a layer's and change at any moment. Like
// the factored learner (factored.h) it learns what the network does, not what it is worth, and
// computes the rewards from the costs of now; there, see the terms p_j, a_j, b_j, gamma_j, miss_j
// and which samples may be used for which. It differs in five ways.
//
// Sending the input at once is an arm too (PolicyOptions::at_once_arm), worth, with a link,
//   r_0 = E[C_L] - mu * (o of the input; of the share lost, gamma_L more).
// E[C_L] is that of the samples sent at once or split at the last layer; r_L is made of it too.
//
// A sample that is not sure at its split is sent only where that is expected to cost less than the
// layers left here: miss_j is the smaller of the two. So no link makes it dearer than no link.
//
// p_j is a sum of differences between neighbouring exits, p_j = p_1 + d_2 + ... + d_j, each
// measured on the samples that passed both exits. Neighbours agree on most samples, so that what
// deep exits add is known far better than from the deep samples alone.
//
// Optimism only where playing the best arm teaches nothing. A sample that passes every exit before
// its split reveals p_1 .. p_g for g, whatever g is; only what deeper arms add must be tried out,
// and b_j. With g the arm of the largest estimate, arm k has the index
//   min(1 - mu*gamma_k, r_k + c * kBonus * sqrt(ln(t + 1) * V)),
//   V = (1 - p)^2 var(b) / (m_k + kSharedWeight), and for k > g also
//       (exit reward - miss reward)^2 * sum over g < i <= k of var(d_i) / n_i + p var(a) / n_k.
// While sending at once has the largest estimate nothing is learned of any exit: then the sum
// begins with the first exit, for all arms. Factored gives every arm the bonus of its own variance,
// which with dear offloads favours arms that may send over those that hardly do: with o = 5 (50
// layers) it takes the wrong one for thousands of samples.
//
// Exits before the split are evaluated (where they cost anything, lambda2 > 0) until kLooks samples
// have passed them, and from then on in one sample of kLookEvery, without which a wrong arm could
// be kept for good. Else the split's own exit only, so that gamma_j = lambda1 * layers + lambda2;
// such a sample counts for a_j and b_j alone. With no end of the looking, all layers at 0.14 lambda
// an exit cost 14 % more than they need.
//
// Measured: cumulative regret at t = 2000, mean of 40 orders with its 95 % interval, on streams
// like factored.h's (network_like_trace; adaptive_test.cc prints it). kBonus was chosen on them:
// half of it loses a run now and then, twice as much costs twice as much.
//   alpha, o, margin    factored      adaptive
//   0.70, 0.5, 1.0       11 +- 2        5 +- 1
//   0.70, 0.2, 1.0        9 +- 3       14 +- 5
//   0.85, 0.5, 1.0       22 +- 4       14 +- 5
//   0.75, 0.5, 1.5        8 +- 2        4 +- 1
//   0.75, 2.0, 1.5       35 +- 5       13 +- 5
//   0.75, 5.0, 1.5      134 +- 14      13 +- 5
//   0.70, 5.0, 1.0      106 +- 11      13 +- 4
// Each against the best arm of its own kind: adaptive's cost less where offloads are dear (at o = 2
// and 5 it pays 4.6 and 4.6 lambda a sample over 5000 samples, factored 6.7 and 11.2).
//
// Learned state: per arm f64 n, sum of differences, number of disagreements; per arm f64 number,
// sum, sum of squares of the exits' confidences; the same of C_L; the same of C_L over all arms,
// and of C_L of any sample; f64 t, offloads, offloads lost.
#pragma once

#include <memory>

#include "policy/policy.h"

namespace splitee::policy {

std::unique_ptr<Policy> make_adaptive(const PolicyOptions& options);

}  // namespace splitee::policy
