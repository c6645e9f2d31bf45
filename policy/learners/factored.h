// The factored learner: learns what the network does and computes what it is worth.
//
// SplitEE's reward mixes confidences, which are the network's and the stream's, with costs, which
// are known at every moment. Here only the former are learned, per arm j:
//   p_j = P(C_j >= alpha),   a_j = E[C_j | C_j >= alpha],   b_j = E[C_L | C_j < alpha],
// and every arm's expected reward follows from them and the costs of now:
//   r_j = p_j (a_j - mu*gamma_j) + (1 - p_j) (b_j - mu*miss_j)
//   miss_j = gamma_j + o with a link, of which a share q ends as a fallback and costs
//            gamma_L + o instead (q: the share of offloads lost so far, plus none in one);
//            gamma_L without a link.
// So a change of bandwidth, of lambda or of the link itself needs no new learning, and its saved
// state is good under any costs. Every exit up to the split is evaluated (gamma_j = lambda1 *
// layers + lambda2 * exits).
//
// Which samples may be used for what (the split is chosen before the sample is seen):
//  - p_j and a_j: every sample with a split >= j.
//  - b_j: samples split at j that did not exit, and samples split at the last layer; both reveal
//    C_L whatever it is. Samples split at i between j and L reveal it only if C_i < alpha: using
//    them would bias b_j towards hard samples (see splitee_s.h), so they are left out. b_j is
//    drawn towards the mean over all arms, which counts for kSharedWeight observations.
//
// Index: min(1 - mu*gamma_j, r_j + c * kBonus * sqrt(ln(t + 1) * V_j)), where
//   V_j = [p (1 - p) (exit reward - miss reward)^2 + p var(a)] / n_j
//         + (1 - p)^2 var(b) / (m_j + kSharedWeight)
// is the variance of the estimate (n_j, m_j: samples behind p_j and b_j), var() measured with one
// added observation of the largest possible variance. The first bound holds since no confidence
// exceeds 1; it is the index of an arm never seen, so that deep arms that cannot pay are never
// tried. c is PolicyOptions::exploration. kBonus was chosen on synthetic streams, where 0.6 lost
// a run now and then and 1.3 cost half as much again.
//
// Measured: cumulative regret at t = 2000, mean of 20 orders, on four synthetic 12-exit streams
// (network_like_trace in tests/policy/planted.h; factored_test.cc prints it):
//   alpha, o, margin   splitee   splitee-s   factored
//   0.70, 0.5, 1.0        151          81         11
//   0.70, 0.2, 1.0        134          81         11
//   0.85, 0.5, 1.0        135          77         22   (two arms 0.017 apart)
//   0.75, 0.5, 1.5        153          77          8
//
// Learned state: per arm f64 n; per arm f64 number, sum, sum of squares of the exits' confidences;
// the same of C_L; the same of C_L over all arms; f64 t, offloads, offloads lost.
#pragma once

#include <memory>

#include "policy/policy.h"

namespace splitee::policy {

std::unique_ptr<Policy> make_factored(const PolicyOptions& options);

}  // namespace splitee::policy
