// Published ways to keep a share of disagreements, without a server, for comparison with the
// default learner. Each has settings; which one is right is told in hindsight, which favours the
// rivals.
//
// A rule here is a threshold from exit k on: from exit k, the first exit that is sure answers, else
// the last one.
//   learn, then test: the least threshold that a fixed sequence of exact binomial tests accepts at
//     level 0.05 on rows seen whole (Angelopoulos et al., arXiv 2110.01052; for 0/1 losses no
//     weaker than the betting bounds of Fast yet Safe, 2405.20915)
//   risk control: the least threshold with (differing + 1) / (rows + 1) <= E on those rows, a bound
//     on the mean (conformal risk control, in Fast yet Safe, 2405.20915)
//   active, any time: the least threshold whose wealth, betting on at most E, exceeds 1 / 0.05; all
//     samples are audited until there is one, then a share q of them (arXiv 2406.10490)
//   lower bounds: at exit k, answers whose bin of confidence agrees with the last exit in a share
//     of at least 1 - gamma by its lower confidence bound (HI-LCB's rule)
//   bandit: UCB1 over ten thresholds at exit k; a sample that is not sure enough runs to the last
//     exit, and pays C_L - C_k - o, what confidence it gained less its price; else 0 (AdaEE,
//     Pacheco et al. 2023)
//   reliability bandit: UCB1 over ten bounds on the chance that an exit from k on answers otherwise
//     than the last, by a curve fitted to those rows; reward: confidence times reliability, less o
//     a lambda (after UAT, Bajpai and Hanawal, arXiv 2509.23666, whose reliability is a network
//     trained with the exits: what traces hold does not tell it)
//   one threshold: for all exits, the least whose share on those rows is at most E (SPINN, 2020;
//     without a server its split is the last layer)
// Without rows of the model file learn-then-test, risk control, the reliability bandit and one
// threshold run the first 1,000 samples whole, or a quarter of the stream.
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bench/decision/run.h"

namespace splitee::bench {

struct Rival {
  std::string name, setting;
  RunResult run;
};

// Every rival with every setting. `rows`: samples that are known before; empty: none.
std::vector<Rival> run_rivals(const Stream& stream, const Prices& prices, double limit,
                              std::span<const std::uint32_t> rows,
                              std::span<const std::uint32_t> order, std::uint64_t seed);

}  // namespace splitee::bench
