// Learners over arms, for ArmBandit; all see only (arm, reward) and share one index interface.
// x: reward scaled to [0, 1] by the range that the costs allow; m, v, n: mean, variance and number
// of an arm's x; t: samples learned from; c: PolicyOptions::exploration, multiplies every bonus.
//   ucb1-range  m + c sqrt(2 ln t / n)                          (Auer, Cesa-Bianchi, Fischer 2002)
//   ucb-v       m + c (sqrt(2 v ln t / n) + 3 ln t / n)         (Audibert, Munos, Szepesvari 2009)
//   ucb-tuned   m + c sqrt(ln t / n min(1/4, v + sqrt(2 ln t / n)))     (Auer et al. 2002, sec. 4)
//   kl-ucb      largest q with n kl(m, q) <= c ln t, Bernoulli kl       (Garivier and Cappe 2011)
//   bayes-ucb   m + c z sqrt(s / n), z the normal quantile of 1 - 1/t, s = (n v + 1/4) / (n + 1)
//               (Kaufmann, Cappe and Garivier 2012, normal posterior)
//   thompson    a draw from N(m, c^2 / (4 (n + 1)))             (Agrawal and Goyal 2013, with the
//               variance of the normal likelihood at 1/4, the largest on [0, 1])
// For streams that change; these use SplitEE's own index on the raw reward, Q/N + c sqrt(ln t / N):
//   discounted  Q, N and t are multiplied by `discount` per sample      (Garivier, Moulines 2011)
//   window      Q, N and t of the last `window` samples only            (the same)
//   restart     Page-Hinkley test (Page 1954, Hinkley 1971) on every arm's reward against the
//               arm's running mean, both directions, tolerance kDrift, alarm at
//               `change_threshold`; an alarm restarts all arms, since a change of domain or link
//               hits all. One sample in kExploreEvery goes round the arms, so that a change for
//               the better is seen too (as in Liu, Lee and Shroff 2018, CUSUM-UCB).
// Every arm is tried once first; ties go to the lowest arm.
// Learned state: see each class's archive().
#pragma once

#include <memory>

#include "policy/policy.h"

namespace splitee::policy {

std::unique_ptr<Policy> make_ucb1_range(const PolicyOptions& options);
std::unique_ptr<Policy> make_ucb_v(const PolicyOptions& options);
std::unique_ptr<Policy> make_ucb_tuned(const PolicyOptions& options);
std::unique_ptr<Policy> make_kl_ucb(const PolicyOptions& options);
std::unique_ptr<Policy> make_bayes_ucb(const PolicyOptions& options);
std::unique_ptr<Policy> make_thompson(const PolicyOptions& options);
std::unique_ptr<Policy> make_discounted(const PolicyOptions& options);
std::unique_ptr<Policy> make_window(const PolicyOptions& options);
std::unique_ptr<Policy> make_restart(const PolicyOptions& options);

// Largest q in [mean, 1] with count * kl(mean, q) <= level; kl of Bernoulli distributions.
double kl_upper_bound(double mean, double count, double level);
// Quantile of the standard normal distribution, 0 < p < 1 (Acklam's rational approximation,
// relative error below 1.2e-9).
double normal_quantile(double p);

}  // namespace splitee::policy
