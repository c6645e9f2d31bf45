#include "policy/replay/simple_rules.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace splitee::policy {
namespace {

constexpr std::size_t kThresholds = 256;

class Scorer {
 public:
  Scorer(const Trace& trace, const PolicyOptions& options)
      : trace_(trace),
        layer_of_(options.layer_of),
        costs_(options.costs),
        last_(trace.exits - 1),
        count_(static_cast<double>(trace.samples())) {
    make_grid();
  }

  void always(std::size_t exit, std::vector<SimpleRule>& rules) const {
    double differing = 0.0;
    for (std::size_t s = 0; s < trace_.samples(); ++s) differing += differs(s, exit);
    rules.push_back({.name = exit == last_ ? "final" : "exit",
                     .exit = exit,
                     .disagreement = differing / count_,
                     .cost = in_lambda(costs_.cost(layer_of_[exit], 1, false))});
  }

  void at_once(std::vector<SimpleRule>& rules) const {
    rules.push_back({.name = "offload", .cost = in_lambda(costs_.offload_from(0))});
  }

  // Thresholds at which a sample stops at an exit are an interval; sums over samples are running
  // sums over the thresholds.
  void threshold_from(std::size_t first, std::vector<SimpleRule>& rules) {
    clear();
    for (std::size_t s = 0; s < trace_.samples(); ++s) {
      std::size_t sure_below = 0;  // thresholds that an exit before was sure at
      for (std::size_t exit = first; exit <= last_ && sure_below < grid_.size(); ++exit) {
        const std::size_t here = exit == last_ ? grid_.size() : reached(s, exit);
        if (here <= sure_below) continue;
        add(sure_below, here, differs(s, exit),
            costs_.cost(layer_of_[exit], exit - first + 1, false));
        sure_below = here;
      }
    }
    take("threshold", first, rules);
  }

  void one_look(std::size_t exit, bool send, std::vector<SimpleRule>& rules) {
    clear();
    const double answered = costs_.cost(layer_of_[exit], 1, false);
    const double sent = answered + costs_.offload_from(layer_of_[exit]);
    const double run = costs_.cost(layer_of_[last_], 2, false);
    for (std::size_t s = 0; s < trace_.samples(); ++s) {
      const std::size_t here = reached(s, exit);
      add(0, here, differs(s, exit), answered);
      add(here, grid_.size(), 0.0, send ? sent : run);
    }
    take(send ? "split" : "look", exit, rules);
  }

 private:
  double in_lambda(double cost) const { return cost / costs_.lambda(); }
  double differs(std::size_t s, std::size_t exit) const {
    const ClassNumber* const row = &trace_.prediction[s * trace_.exits];
    return row[exit] != row[last_] ? 1.0 : 0.0;
  }
  // Thresholds that the exit reaches on a sample: the first so many of the grid.
  std::size_t reached(std::size_t s, std::size_t exit) const {
    const auto confidence = static_cast<float>(trace_.confidence[s * trace_.exits + exit]);
    return static_cast<std::size_t>(std::ranges::upper_bound(grid_, confidence) - grid_.begin());
  }

  void make_grid() {
    std::vector<float> all;
    const std::size_t step = std::max<std::size_t>(1, trace_.samples() / 4096);
    for (std::size_t s = 0; s < trace_.samples(); s += step) {
      for (std::size_t exit = 0; exit < last_; ++exit) {
        all.push_back(static_cast<float>(trace_.confidence[s * trace_.exits + exit]));
      }
    }
    std::ranges::sort(all);
    // Denser where exits are sure: that is where few samples decide.
    for (std::size_t i = 0; i < kThresholds && !all.empty(); ++i) {
      const double share = static_cast<double>(i) / (kThresholds - 1);
      const double place =
          (1.0 - (1.0 - share) * (1.0 - share)) * static_cast<double>(all.size() - 1);
      grid_.push_back(all[static_cast<std::size_t>(place)]);
    }
    grid_.erase(std::unique(grid_.begin(), grid_.end()), grid_.end());
    differing_.resize(grid_.size() + 1);
    cost_.resize(grid_.size() + 1);
  }

  void clear() {
    std::ranges::fill(differing_, 0.0);
    std::ranges::fill(cost_, 0.0);
  }
  void add(std::size_t from, std::size_t to, double differing, double cost) {
    differing_[from] += differing;
    differing_[to] -= differing;
    cost_[from] += cost;
    cost_[to] -= cost;
  }
  void take(std::string_view name, std::size_t exit, std::vector<SimpleRule>& rules) const {
    double differing = 0.0, cost = 0.0;
    for (std::size_t i = 0; i < grid_.size(); ++i) {
      differing += differing_[i];
      cost += cost_[i];
      rules.push_back({.name = name,
                       .exit = exit,
                       .threshold = grid_[i],
                       .disagreement = differing / count_,
                       .cost = in_lambda(cost / count_)});
    }
  }

  const Trace& trace_;
  const std::vector<std::size_t>& layer_of_;
  const CostModel& costs_;
  const std::size_t last_;
  const double count_;
  std::vector<float> grid_;               // ascending
  std::vector<double> differing_, cost_;  // differences from threshold to threshold
};

}  // namespace

std::string to_text(const SimpleRule& rule, std::span<const std::size_t> layer_of) {
  if (rule.name == "final") return "every layer";
  if (rule.name == "offload") return "the input sent at once";
  const std::string layer = std::to_string(layer_of[rule.exit]);
  if (rule.name == "exit") return "always layer " + layer;
  char sure[32];
  std::snprintf(sure, sizeof sure, "%.4g", static_cast<double>(rule.threshold));
  if (rule.name == "threshold") return "from layer " + layer + " on, where sure at " + sure;
  return "layer " + layer + " where sure at " + sure +
         (rule.name == "split" ? ", else sent" : ", else the last");
}

std::vector<SimpleRule> simple_rules(const Trace& trace, const PolicyOptions& options,
                                     bool server) {
  std::vector<SimpleRule> rules;
  Scorer scorer(trace, options);
  for (std::size_t exit = 0; exit < trace.exits; ++exit) scorer.always(exit, rules);
  if (server) scorer.at_once(rules);
  for (std::size_t exit = 0; exit + 1 < trace.exits; ++exit) {
    scorer.threshold_from(exit, rules);
    scorer.one_look(exit, false, rules);
    if (server) scorer.one_look(exit, true, rules);
  }
  return rules;
}

std::vector<SimpleRule> lower_hull(std::vector<SimpleRule> rules) {
  std::ranges::sort(rules, [](const SimpleRule& a, const SimpleRule& b) {
    return a.disagreement < b.disagreement || (a.disagreement == b.disagreement && a.cost < b.cost);
  });
  std::vector<SimpleRule> hull;
  for (const SimpleRule& rule : rules) {
    if (!hull.empty() && rule.cost >= hull.back().cost) continue;
    while (hull.size() >= 2) {
      const SimpleRule &a = hull[hull.size() - 2], &b = hull.back();
      const double turn = (b.cost - a.cost) * (rule.disagreement - a.disagreement) -
                          (rule.cost - a.cost) * (b.disagreement - a.disagreement);
      if (turn < 0.0) break;
      hull.pop_back();
    }
    hull.push_back(rule);
  }
  return hull;
}

const SimpleRule& cheapest(std::span<const SimpleRule> rules, double disagreement) {
  const SimpleRule* best = nullptr;
  for (const SimpleRule& rule : rules) {
    if (rule.disagreement > disagreement && rule.disagreement > 0.0) continue;
    if (best == nullptr || rule.cost < best->cost) best = &rule;
  }
  SPLITEE_CHECK(best != nullptr);
  return *best;
}

}  // namespace splitee::policy
