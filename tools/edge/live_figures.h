// What an edge's live page and metrics show: the summary of the run so far, the state of the link,
// and the last answers one by one. No texts of clients.
//
// JSON: program, version, model {"name", "layers", "exits", "labels", "input", "pairs"}, link
// {"configured", "up", "problem"}, waiting (rows), summary (summary.h), recent: the last answers as
// lists, the oldest first, of equal lengths: exit_layer, route, latency_us, confidence, cost,
// link_up (booleans), upper (bound of the disagreement; null where the policy has none), and first,
// the number of the oldest. Thread rule: one thread at a time.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <string>

#include "policy/policy.h"
#include "tools/edge/record.h"
#include "tools/edge/summary.h"
#include "tools/http/row_queue.h"

namespace splitee::tools {

class LiveFigures {
 public:
  // What is so while an answer is given.
  struct Moment {
    bool link_configured = false, link_up = false;
    std::string link_problem;  // where it is not up
    std::optional<policy::DisagreementReport> disagreement;
  };

  // `served` must outlive it.
  explicit LiveFigures(const ServedNetwork& served) : served_(served) {}

  void add(const Record& record, const Moment& moment);
  std::string json(const Summary& summary, const Moment& moment, std::size_t rows_waiting) const;
  // Prometheus text; splitee_edge_...
  std::string metrics(const Summary& summary, const Moment& moment, std::size_t rows_waiting) const;

 private:
  struct Entry {
    std::size_t exit_layer;
    policy::Route route;
    std::int64_t latency_us;
    float confidence;
    double cost;
    bool link_up;
    std::optional<double> upper;
  };
  const ServedNetwork& served_;
  std::deque<Entry> recent_;
  std::size_t added_ = 0;
};

}  // namespace splitee::tools
