// What a replay is asked and what it answers (replay.h says what they mean).
// Thread rule: plain values.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "policy/policy.h"
#include "policy/replay/trace.h"

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
  // kOffloadAtOnce: none. Of a policy that chooses exit by exit, where it was answered or sent
  // from.
  std::size_t arm = 0;
  Route route = Route::kFinal;
  std::size_t exit_arm = 0;  // that answered; the last one where a server did
  bool differs = false;      // as ReplayResult::disagreement counts
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
  // The caller's own policy in place of that: makes the one of a run. May be empty; deployable
  // semantics only.
  std::function<std::unique_ptr<Policy>(const PolicyOptions&)> own_policy;
  // layer_of may be empty: exit i of the trace is then layer i. Its seed is not used.
  PolicyOptions policy_options;
  std::size_t runs = 1;
  std::uint64_t seed = 0;  // orders and policies of all runs
  // Samples in progress, as on an edge: the policy learns from sample t right before sample
  // t + window is planned. Deployable semantics only.
  std::size_t window = 1;
  Order order = Order::kShuffled;
  Semantics semantics = Semantics::kDeployable;
  bool server = true;               // false: nothing can be sent; deployable semantics only
  PaperDepartures departures;       // paper semantics only
  std::vector<CostChange> changes;  // t ascending, from 1; not with paper semantics
  std::function<void(const Decision&)> on_decision;  // may be empty
  // Now and then, with the runs done so far and the share of the one at hand, and after each run:
  // false there ends the replay with the runs done. May be empty.
  std::function<bool(double)> go_on;
};

// Mean over runs and half the width of its 95 % interval (Student's t; 0 for one run).
struct Estimate {
  double mean = 0;
  double ci95 = 0;
};

struct RegretPoint {
  std::size_t t = 0;  // samples so far
  Estimate regret;    // sum over them of (reward of best_arm - reward got)
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
  // Share of the answers that differed from the last exit's; of an audited sample the answer that
  // it would have got.
  Estimate disagreement;
  double audit_rate = 0;            // share of samples
  std::optional<Estimate> upper;    // bound on the disagreement at the end, of a policy that audits
  std::size_t best_arm = 0;         // 0-based; largest mean reward over the trace: the oracle,
                                    // the same for every policy
  std::vector<double> mean_reward;  // per arm, over the trace (both before any change of costs)
  std::vector<double> exit_share;   // per arm, of all samples answered there on the edge
  std::vector<RegretPoint> regret;  // t = 1, 2, 5, 10, ..., twentieths of a long stream, the last
  std::uint64_t rejected = 0;       // outcomes that the policies refused
};

// Samples of run `run` in the order that a replay visits them; `order` has one entry a sample.
void fill_order(const ReplayOptions& options, std::size_t run, std::span<std::uint32_t> order);
// Of the policy of run `run`.
std::uint64_t run_seed(const ReplayOptions& options, std::size_t run);

}  // namespace splitee::policy
