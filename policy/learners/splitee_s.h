// SplitEE-S (arXiv 2309.09195, algorithm 2): SplitEE that evaluates every exit up to the split i
// and learns about every arm j <= i from one sample.
//
// The published code updates arm j < i with C_L even when the sample exited at i, where no edge
// device knows C_L. What a device does know of arm j from a sample split at i > j:
//   C_j >= alpha   arm j would have exited: its reward C_j - mu*gamma_j is known;
//   C_j <  alpha   arm j would have offloaded: its reward needs C_L, revealed only if C_i < alpha.
// Updating only where the reward is known (`splitee-s-known`, kept for comparison) drops exactly
// the samples of arm j that are hard at j and easy at i. Arm j's mean then counts its exits too
// often and its offloads too rarely, and no number of samples cures it. On a planted stream (40 %
// of samples hard at exit 1, easy at exit 2; tests/policy/splitee_test.cc) its regret after 20,000
// samples is 949, against 34 for the rule below and 72 for splitee.
//
// The rule here. The reward of arm j is a mixture,
//   r_j = p_j * E[reward | C_j >= alpha] + (1 - p_j) * w_j,   w_j = E[reward | C_j < alpha].
//  - p_j and the exit part come from every sample with a split >= j. The split is chosen before
//    the sample is seen, so these samples are not selected: unbiased.
//  - w_j comes only from samples split at j itself that did not exit: every one of them reveals
//    its reward, whatever it is: unbiased. The C_L of samples split higher up, being known only
//    for C_i < alpha, is never used for a lower arm.
// Until w_j has its first observation the best conceivable reward stands in for it (C_L = 1).
// Index: r_j + c * sqrt(ln t / n_j'), where
//   1 / n_j' = 1 / n_j + (1 - p_j)^2 * (4 s^2) / m_j
// n_j: samples seen at j, m_j: those behind w_j. UCB1's bonus (c = 1) is made for a reward whose
// variance can be as large as 1/4; s^2 is the measured variance of w's observations around their
// arm's mean, over all arms (1/4 to begin with, weighing as much as kPriorWeight observations).
// So the side observations narrow the bonus as far as they narrow the estimate and no further;
// with the plain count n_j an arm could be given up for ever on a w_j of one sample.
// No link (arms end locally): the same with w_j = E[C_L - mu*gamma_L | C_j < alpha].
//
// Learned state: per arm f64 n, then exits, sum of exit rewards, m, sum of w, sum of squares of w;
// f64 sum of squares of w around its arms' means, sum of m, t; u64 next arm to try first; per arm
// f64 mean, then bonus at t = e. splitee-s-known: as splitee.h.
#pragma once

#include <memory>

#include "policy/policy.h"

namespace splitee::policy {

std::unique_ptr<Policy> make_splitee_s(const PolicyOptions& options);
std::unique_ptr<Policy> make_splitee_s_known(const PolicyOptions& options);

}  // namespace splitee::policy
