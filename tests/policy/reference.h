// What decision_fuzz.cc holds every policy against: the same decisions from the whole history, anew
// at each step, by the equations as they are published and as the headers of policy/learners state
// them. Nothing here is kept up to date, nothing is fast, and nothing is shared with policy/ but
// its plain types.
//
// A decision may be any that is as good as the best but for rounding; arms with the same evidence
// tie exactly, and then the lowest of them it must be.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "policy/policy.h"

namespace splitee::policy::reference {

inline constexpr double kNotCompared = std::numeric_limits<double>::quiet_NaN();

// A sample that the policy learned from, and the costs at that moment.
struct Seen {
  Plan plan;
  Route route = Route::kFinal;
  std::size_t exit_arm = 0;
  std::vector<float> confidence;
  double answer = 0, cost = 0;
  CostModel costs;
};

// What may be done at an exit: one of these, or several where rounding decides.
enum : unsigned { kMayContinue = 1, kMayExit = 2, kMayOffload = 4 };

struct Index {
  double value = 0;
  std::vector<double> evidence;  // what it is computed from; empty: equal ones are not known
};

// gamma, section 3 of the paper: lambda1 * layers + lambda2 * exits.
inline double gamma(const CostModel& costs, std::size_t layers, std::size_t exits) {
  double cost = costs.lambda1 * static_cast<double>(layers);
  if (layers > 0) cost -= costs.lambda1 * costs.last_layer_spared;
  return cost + costs.lambda2 * static_cast<double>(exits);
}
inline double offload(const CostModel& costs, std::size_t layer) {
  return layer < costs.offload_by_layer.size() ? costs.offload_by_layer[layer] : costs.offload;
}

class Reference {
 public:
  explicit Reference(const PolicyOptions& options) : options_(options), costs_(options.costs) {}
  virtual ~Reference() = default;

  // Empty where the plan is one that the equations allow; else what is wrong with it.
  virtual std::string wrong_plan(const Plan& plan, LinkState link) = 0;
  // SplitEE's rule: nothing before the split; there exit if sure, else offload.
  virtual unsigned allowed(const Plan& plan, std::size_t arm, const ExitReading& reading) {
    if (arm < plan.arm) return kMayContinue;
    if (arm == last() || sure(reading.confidence)) return kMayExit;
    return plan.link == LinkState::kUp ? kMayOffload : kMayContinue;
  }
  // What a saved state has to hold behind the number of refused outcomes, all f64, in its order;
  // kNotCompared for what else is there. Shorter than the state: the rest is not compared.
  virtual std::vector<double> numbers() const { return {}; }
  // How far a number may be off.
  virtual double tolerance() const { return 1e-9 * scale(); }

  void learn(const Seen& seen) { history_.push_back(seen); }
  void set_costs(const CostModel& costs) { costs_ = costs; }

 protected:
  std::size_t arms() const { return options_.layer_of.size(); }
  std::size_t last() const { return arms() - 1; }
  std::size_t layer(std::size_t arm) const { return options_.layer_of[arm]; }
  std::size_t layers() const { return options_.layer_of.back(); }
  bool sure(float confidence) const { return confidence >= static_cast<float>(options_.alpha); }
  double reward(const Seen& seen) const { return seen.answer - seen.costs.mu * seen.cost; }

  // The largest number that goes into an index.
  double scale() const {
    double largest = 1.0 + costs_.mu * (gamma(costs_, layers(), arms() + 1) + largest_offload());
    for (const Seen& seen : history_) {
      const double all = gamma(seen.costs, layers(), arms() + 1);
      largest = std::max(largest, 1.0 + seen.costs.mu * std::max(seen.cost, all));
    }
    return largest;
  }
  double largest_offload() const {
    double largest = costs_.offload;
    for (const double one : costs_.offload_by_layer) largest = std::max(largest, one);
    return largest;
  }

  static std::string wrong_choice(const std::vector<Index>& indices, std::size_t chosen,
                                  double tolerance) {
    if (chosen >= indices.size()) return "no such arm";
    std::size_t best = 0;
    for (std::size_t arm = 0; arm < indices.size(); ++arm) {
      if (std::isnan(indices[arm].value)) return "an index is no number";
      if (indices[arm].value > indices[best].value) best = arm;
    }
    const double lacking = indices[best].value - indices[chosen].value;
    if (lacking > tolerance) {
      return "arm " + std::to_string(chosen) + ", index " + std::to_string(indices[chosen].value) +
             ", in place of " + std::to_string(best) + ", " + std::to_string(indices[best].value);
    }
    for (std::size_t arm = 0; arm < chosen; ++arm) {
      if (!indices[arm].evidence.empty() && indices[arm].evidence == indices[chosen].evidence) {
        return "arm " + std::to_string(chosen) + ", which equals arm " + std::to_string(arm);
      }
    }
    return "";
  }

  const PolicyOptions options_;
  CostModel costs_;  // of now
  std::vector<Seen> history_;
};

// Of values in [0, 1].
struct Values {
  std::vector<double> all;

  double count() const { return static_cast<double>(all.size()); }
  double sum() const { return std::accumulate(all.begin(), all.end(), 0.0); }
  double squares() const { return std::inner_product(all.begin(), all.end(), all.begin(), 0.0); }
  double mean_or(double otherwise) const { return all.empty() ? otherwise : sum() / count(); }
  // With one observation of the largest variance added.
  double variance(double largest) const {
    double scatter = largest;
    for (const double value : all) scatter += (value - mean_or(0)) * (value - mean_or(0));
    return scatter / (count() + 1.0);
  }
  void append_to(std::vector<double>& numbers) const {
    numbers.insert(numbers.end(), {count(), sum(), squares()});
  }
};

// The arms not seen yet come first, in turn, going on behind the one that came last: several
// samples may be on their way.
class FirstPulls {
 public:
  // arms: none is left.
  std::size_t next(const std::vector<double>& counts) {
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const std::size_t arm = (behind_ + i) % counts.size();
      if (counts[arm] != 0.0) continue;
      behind_ = (arm + 1) % counts.size();
      return arm;
    }
    return counts.size();
  }

 private:
  std::size_t behind_ = 0;
};

std::unique_ptr<Reference> make_rule(std::string_view name, const PolicyOptions& options);
std::unique_ptr<Reference> make_bandit(std::string_view name, const PolicyOptions& options);
std::unique_ptr<Reference> make_factored(std::string_view name, const PolicyOptions& options);

}  // namespace splitee::policy::reference
