// What a run of splitee-edge came to: a table for people, and the same as JSON:
//   policy, alpha, seed, samples, labelled, accuracy (null without labels), mean_confidence,
//   routes {"exit", "offload", "fallback", "final", "audit"} (counts), mean_edge_layers, mean_cost
//   and final_cost (in lambda; the latter of running every layer on the edge), cost_saved (share of
//   final_cost), mean_reward, bytes_sent, latency_us {"mean", "p50", "p99"} (edge, link and server
//   of a sample together), splits (chosen, counts, [0] is the input itself), exit_layers (counts by
//   layer, [0] is unused), retries (offloads
//   sent to a second server), layer_us (mean of a layer with its exit on the edge), link {"rtt_us",
//   "bytes_per_second" (null: too many to be seen in the times), "server_layer_us"} (as measured,
//   at the end; null without), disagreement
//   {"limit", "audited", "delivered", "estimate", "upper", "certified"} (policy.h; null for a
//   policy that does not audit), audit_rate (share), feedback {"given", "right"} (counts; null
//   without), energy {"source", "computing_watts",
//   "waiting_watts"} (null unless it is the cost), board {"temperature_celsius", "throttled"} (at
//   the end; null where the system does not tell), invalid_utf8, cut (texts that fill the model's
//   context; longer ones are cut to it), dropped (frames, with --drop-late), seconds
// Thread rule: one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/cost.h"
#include "policy/policy.h"
#include "tools/common/latency_histogram.h"
#include "tools/edge/board.h"
#include "tools/edge/record.h"

namespace splitee::tools {

class Summary {
 public:
  Summary(std::size_t layers, const policy::CostModel& costs);

  // `edge_layers`: layers run on the edge for it.
  void add(const Record& record, std::size_t edge_layers, bool cut);
  // Costs as they were in the end, where they were measured.
  void set_costs(const policy::CostModel& costs);

  // Facts about the run as a whole; set before printing.
  std::string policy;
  double alpha = 0;
  std::uint64_t seed = 0;
  std::uint64_t invalid_utf8 = 0;
  std::uint64_t dropped = 0;  // frames
  double seconds = 0;
  std::uint64_t retries = 0;
  // As measured, by the link's end; nothing where no link was.
  struct LinkUse {
    double rtt_us = 0;
    std::optional<double> bytes_per_second;
    double server_layer_us = 0;
  };
  std::optional<LinkUse> link;
  struct Energy {
    std::string source;
    double computing_watts = 0, waiting_watts = 0;
  };
  std::optional<Energy> energy;  // where it is the cost
  Board board;
  double layer_us = 0;  // mean of a layer on the edge; 0 where none was run
  std::optional<policy::DisagreementReport> disagreement;  // of a policy that audits

  std::uint64_t samples() const { return samples_; }
  std::uint64_t routes(policy::Route route) const {
    return routes_[static_cast<std::size_t>(route)];
  }
  std::string table() const;
  std::string json() const;

 private:
  double mean(double sum) const;
  double cost_saved() const;

  std::size_t layers_;
  double final_cost_ = 0;
  std::uint64_t samples_ = 0, labelled_ = 0, correct_ = 0, edge_layers_ = 0, bytes_sent_ = 0;
  std::uint64_t feedback_ = 0, feedback_right_ = 0;
  std::uint64_t cut_ = 0;
  double confidence_ = 0, cost_ = 0, reward_ = 0, latency_sum_us_ = 0;
  std::array<std::uint64_t, policy::kRouteCount> routes_{};
  std::vector<std::uint64_t> splits_, exit_layers_;  // by layer
  LatencyHistogram latency_;
};

}  // namespace splitee::tools
