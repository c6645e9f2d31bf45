// Rules of the form "look at exit i; answer there from a confidence t_i on; else go on to exit n_i,
// or send" (chains), and the search for the cheapest one on audited rows.
//
// One threshold, threshold from exit k on, one look, two looks, a split with sending, a cascade
// that sends in the end, always exit k, send at once and run everything are chains. For a price
// `beta` of a disagreement, backward induction finds at each exit, from the last to the first, the
// threshold and the next exit of least sum over the rows of
//   cost so far from this exit + beta * loss of the answer,
// for all rows at first; then, for the chain found, again for those rows only that reach the exit.
// Every sum is exact for the rows: no bins. The loss of answering a row at an exit is half whether
// its class differs there, half what the model says (disagreement_model.h): counts alone follow
// chance, the model alone does not follow the rows where its curve does not fit.
// Thread rule: plain values. No allocation after construction.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "policy/cost.h"
#include "policy/learners/audit_rows.h"
#include "policy/learners/disagreement_model.h"

namespace splitee::policy {

inline constexpr std::uint16_t kSendNext = 0xffff;
inline constexpr float kNeverAnswers = 2.0f;  // as a threshold

struct Look {
  float threshold = kNeverAnswers;
  std::uint16_t next = kSendNext;  // exit, or kSendNext
};

struct Chain {
  bool at_once = false;     // send the input
  std::size_t first = 0;    // exit to look at first; the last one: run everything
  std::vector<Look> looks;  // (exits); those that the chain does not reach mean nothing
};

// What a chain comes to on rows: sums over them by weight.
struct ChainScore {
  double weight = 0;
  double cost = 0;  // in lambda
  double differing = 0;
  double scatter = 0;  // of that: its variance

  double mean_cost() const { return cost / weight; }
  double disagreement() const { return differing / weight; }
  ChainScore operator+(const ChainScore& other) const {
    return {weight + other.weight, cost + other.cost, differing + other.differing,
            scatter + other.scatter};
  }
};

class ChainPlanner {
 public:
  explicit ChainPlanner(std::vector<std::size_t> layer_of);

  // What things cost from now on. `link`: whether samples can be sent.
  void set_prices(const CostModel& costs, bool link);
  // The losses of answers: disagreement with the last exit, or what the confidence lacks to 1.
  void set_disagreement(const AuditRows& rows, const DisagreementModel& model);
  void set_confidence(const AuditRows& rows);

  Chain deepest() const;
  // The chain for a price of one loss, in lambda. `only` (rows), where not empty: the rows that
  // count. The rows must be those that the losses were set with.
  void propose(const AuditRows& rows, double beta, std::span<const std::uint8_t> only,
               Chain& chain);
  // Half of the disagreement from the model, half counted; without a model all is counted. Rows
  // whose entry in `without` is not 0 do not count.
  ChainScore score(const AuditRows& rows, const DisagreementModel* model, const Chain& chain,
                   std::span<const std::uint8_t> without = {}) const;
  // Exit at which a row is answered (the last one too where it is sent).
  std::size_t answers_at(const AuditRows& rows, const Chain& chain, std::size_t row) const;

  // In lambda: from exit `from` to `to` with its head; from the start; one whole audit from an exit
  // on, all heads included.
  double run(std::size_t from, std::size_t to) const;
  double begin(std::size_t exit) const;
  double audit_from(std::size_t exit) const;
  double full_cost() const { return begin(exits_ - 1); }
  double full_row_cost() const { return begin(0) + audit_from(0); }
  double send_at_once() const { return send_at_once_; }

 private:
  void set_values(const AuditRows& rows, std::size_t exit, float beta, const Look& look);
  struct Sum;
  void store(const Sum& sum, std::size_t from);
  void sum_options(const AuditRows& rows, std::size_t exit, float beta,
                   std::span<const std::uint8_t> only, std::size_t from);
  std::size_t first_unanswered(const AuditRows& rows, std::size_t exit, float beta,
                               std::span<const std::uint8_t> only, std::size_t option) const;
  static float least_answered(const AuditRows& rows, std::size_t exit,
                              std::span<const std::uint8_t> only, std::size_t before);
  void improve(const AuditRows& rows, std::size_t exit, float beta,
               std::span<const std::uint8_t> only, Look& look);
  void pick_first(const AuditRows& rows, std::span<const std::uint8_t> only, double beta,
                  Chain& chain) const;
  void refine(const AuditRows& rows, double beta, std::span<const std::uint8_t> only, Chain& chain);
  void find_arrivals(const AuditRows& rows, const Chain& chain, std::size_t exit,
                     std::span<const std::uint8_t> only);

  std::size_t exits_;
  std::vector<std::size_t> layer_of_;
  double layer_ = 0.8, head_ = 0.2, spared_ = 0, send_at_once_ = 0;  // in lambda
  bool link_ = false;
  std::vector<float> send_;             // per exit, in lambda
  std::size_t stride_;                  // of values_: the exits, sending, and room for vectors
  std::vector<float> loss_;             // (exits, kCapacity)
  std::vector<float> values_;           // (kCapacity, stride_): of a row from an exit on; sent
  std::vector<std::uint8_t> arrivals_;  // (kCapacity)
  std::vector<float> total_, best_, step_, total_before_;  // (stride_), per next exit or sending
  std::vector<std::int32_t> stretch_;
  std::vector<std::size_t> path_;          // looks of the chain at hand
  mutable std::vector<double> best_mean_;  // per first exit
};

}  // namespace splitee::policy
