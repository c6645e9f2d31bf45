// From audited rows to the rule that decides: which chain, and which samples to audit.
//
// The cheapest chain whose disagreement, times by how much choosing flatters it, plus kCaution
// standard deviations of the rows and of the samples so far and kFew rows, is at most E: by
// bisection on beta, the price of a disagreement. By how much a chain is flattered by being chosen
// on the rows that score it: a chain proposed on one half of the rows is counted on the other half,
// and the other way round, over what is expected; a mean of the last ten such foldings. Rows that
// chains are only scored on flatter none.
//
// Audits: a budget in lambda a sample. A share of it audits every sample alike, from the first exit
// on; the rest goes by doubt: with p the expected disagreement of the answers to come, and c what
// checking them costs, both given the confidence at the first look (in bins of equal share), the
// probability grows with sqrt(p / c), which gives the least variance at a given cost (Neyman).
// Thread rule: plain values. No allocation after construction.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <vector>

#include "policy/learners/audit_rows.h"
#include "policy/learners/chain_planner.h"
#include "policy/learners/disagreement_model.h"
#include "policy/learners/shift_test.h"
#include "policy/policy.h"

namespace splitee::policy {

inline constexpr std::size_t kDoubtBins = 16;
inline constexpr double kNoSending = std::numeric_limits<double>::infinity();

struct Rule {
  Chain chain;
  double beta = 100.0;                    // lambda per disagreement
  double cost = 0.0, disagreement = 0.0;  // expected, without audits
  double flattery = 1.0, foldings = 0.0;
  // Probability of an audit: of all samples from the first exit on; by the confidence at the first
  // look, in bins that `edges` divide, of those from there on. The latter are never less.
  double whole = 1.0;
  std::array<float, kDoubtBins - 1> edges{};
  std::array<float, kDoubtBins> probability{};
  std::uint64_t next_plan = 0;  // sample

  void archive(StateArchive& archive, std::size_t exits);
};

class RuleMaker {
 public:
  explicit RuleMaker(const PolicyOptions& options);

  Rule deepest() const;
  // The same, without allocating.
  void make_deepest(Rule& rule) const;
  // The input is sent, and hardly anything audited.
  void make_at_once(Rule& rule) const;
  struct Search {
    bool young = false;           // little is known yet: look far and wide
    double excess = 1.0;          // times what the rows tell of disagreement is expected
    double samples = 1.0;         // over which the limit is to hold
    double budget = 0.0;          // mean cost in lambda that kBudget may pay now
    double sending = kNoSending;  // cost in lambda of sending the input
  };
  // Makes the rule anew under the costs of now. `checks`: rows that no chain is proposed on.
  void make(const AuditRows& rows, const AuditRows& checks, const CostModel& costs, bool link,
            const Search& how, Rule& rule);
  // `audited`: the share of the cost of auditing everything that learning asks for now.
  void plan_audits(const AuditRows& rows, double audited, Rule& rule);

  double disagreement(std::size_t exit, float confidence) const {
    return model_.at(exit, confidence);
  }
  double full_cost() const { return planner_.full_cost(); }
  void archive(StateArchive& archive) { model_.archive(archive); }

 private:
  struct Doubt;
  bool allowed(const ChainScore& own, const ChainScore& all, const Search& how,
               const Rule& rule) const;
  void search(const AuditRows& rows, const AuditRows& checks, const Search& how, Rule& rule);
  double price_of(const AuditRows& rows, double beta, const Chain& chain,
                  std::span<const std::uint8_t> without) const;
  // Whether sending at once is better than chains are on rows that they were not proposed on.
  bool sends_better(const AuditRows& rows, double beta, std::uint64_t seed);
  void fold(const AuditRows& rows, double expected, Rule& rule);
  void doubt(const AuditRows& rows, Rule& rule, std::array<Doubt, kDoubtBins>& bins) const;

  Objective objective_;
  double limit_;
  DisagreementModel model_;
  ChainPlanner planner_;
  const Chain deepest_;
  Chain trial_, best_;
  std::vector<std::uint8_t> half_;  // (rows)
};

}  // namespace splitee::policy
