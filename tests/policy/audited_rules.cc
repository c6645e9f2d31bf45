// The rule that the default policy makes of its rows: among the chains that the search proposes, by
// the limit as docs/decision.md states it; and how it spends its audits.
#include <cmath>
#include <limits>

#include "tests/policy/decision_fuzz.h"
#include "tests/policy/decision_stream.h"
#include "tests/policy/reference_audited.h"

namespace splitee::policy::fuzzed {
namespace {

using reference::Prices;

bool near(double a, double b, double tolerance = 1e-6) {
  return std::abs(a - b) <= tolerance * (1.0 + std::abs(b));
}

// The maker's search once more, with slow sums. What it proposes comes from a planner and a model
// of its own, which other families look at.
class SlowMaker {
 public:
  SlowMaker(const PolicyOptions& options, const Prices& prices)
      : options_(options), prices_(prices), model_(options.arms()), planner_(options.layer_of) {}

  // Whether rounding may decide otherwise.
  bool doubtful() const { return doubtful_; }

  void make(const AuditRows& rows, const AuditRows& checks, const RuleMaker::Search& how,
            Rule& rule) {
    planner_.set_prices(prices_.costs, prices_.link);
    model_.fit(rows, how.young ? 4 : 1);
    planner_.set_disagreement(rows, model_);
    const bool budget = options_.objective == Objective::kBudget, wide = how.young || budget;
    double low = std::log(wide ? 1.0 : std::max(1.0, rule.beta / std::exp(1.0)));
    double high = std::log(wide ? 1e5 : std::min(1e5, rule.beta * std::exp(1.0)));
    const double whole = prices_.begin(prices_.last());
    Chain best = planner_.deepest();
    best.at_once = how.sending < whole;
    double least = std::min(how.sending, whole), found = 0, own_differing = 0, differing = 0;
    bool kept = false;
    for (int i = 0; i < (wide ? 9 : 5); ++i) {
      const double beta = (low + high) / 2;
      Chain chain = planner_.deepest();
      planner_.propose(rows, std::exp(beta), {}, chain);
      const ChainScore own = reference::score(prices_, chain, rows, &model_);
      const ChainScore all = own + reference::score(prices_, chain, checks, nullptr);
      const bool good = budget ? below(all.mean_cost(), how.budget) : allowed(own, all, how, rule);
      (good != budget ? high : low) = beta;
      if (budget ? !(good || !kept) : !(good && below(all.mean_cost(), least))) continue;
      kept = kept || good;
      best = chain;
      least = all.mean_cost();
      found = std::exp(beta);
      own_differing = own.differing;
      differing = all.disagreement();
    }
    rule.chain = best;
    rule.cost = least;
    rule.disagreement = differing;
    rule.beta = std::clamp(found > 0 ? found : std::exp(high), 1.0, 1e5);
    if (found > 0 && !budget && rows.size() >= 100) fold(rows, own_differing, rule);
  }

  void plan_audits(const AuditRows& rows, double audited, Rule& rule) const {
    const double whole_cost = std::max(0.1, prices_.whole() - rule.cost);
    const double budget = std::max(std::max(0.013 * rule.cost, 0.018), audited * whole_cost);
    const bool by_doubt = !rule.chain.at_once && rule.chain.first < prices_.last();
    const double share = by_doubt ? 0.3 : 1.0;
    rule.whole = audited >= 1 ? 1 : std::clamp(share * budget / whole_cost, 5e-4, 1.0);
    rule.probability.fill(static_cast<float>(rule.whole));
    if (by_doubt) by_bins(rows, budget - rule.whole * whole_cost, rule);
  }

 private:
  bool below(double a, double b) {
    doubtful_ = doubtful_ || near(a, b, 1e-7);
    return a <= b;
  }
  // D f + 1.4 s + 0.6 / n <= E, times the rows.
  bool allowed(const ChainScore& own, const ChainScore& all, const RuleMaker::Search& how,
               const Rule& rule) {
    const double limit = options_.max_disagreement * all.weight;
    const double expected = all.differing + (rule.flattery - 1) * own.differing;
    const double chance = limit * all.weight / how.samples;
    return below(how.excess * expected + 1.4 * std::sqrt(all.scatter + 1 + chance) + 0.6, limit);
  }
  // Chains of one half of the rows on the other half, and the other way round.
  void fold(const AuditRows& rows, double expected, Rule& rule) {
    double counted = 0;
    for (const int side : {0, 1}) {
      std::vector<std::uint8_t> half(rows.size());
      for (std::size_t row = 0; row < rows.size(); ++row) {
        const std::uint64_t hash = (row * 2654435761u) >> (5 + rule.next_plan % 13);
        half[row] = static_cast<int>(hash % 2) == side ? 1 : 0;
      }
      Chain chain = planner_.deepest();
      planner_.propose(rows, rule.beta, half, chain);
      counted += reference::score(prices_, chain, rows, nullptr, half).differing;
    }
    rule.foldings = std::min(10.0, rule.foldings + 1);
    rule.flattery += ((counted + 1) / (expected + 1) - rule.flattery) / rule.foldings;
    rule.flattery = std::clamp(rule.flattery, 1.0 / 3, 3.0);
  }

  // Sixteen bins of as many rows, from the least sure on; sqrt(expected / cost) in each.
  void by_bins(const AuditRows& rows, double left, Rule& rule) const {
    const std::size_t count = rows.size();
    std::array<double, kDoubtBins> weight{}, cost{}, doubt{};
    double all = 0, spent = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t row = rows.order(rule.chain.first)[count - 1 - i];
      const std::size_t bin = i * kDoubtBins / count;
      const std::size_t answers = price(prices_, rule.chain, rows, row).answers;
      const auto w = static_cast<double>(rows.weight()[row]);
      weight[bin] += w;
      all += w;
      cost[bin] += w * (0.05 + (answers != prices_.last() ? rest(answers) : 0));
      if (answers == prices_.last()) continue;
      doubt[bin] += w * static_cast<double>(model_.of_rows(answers)[row]);
    }
    for (std::size_t bin = 0; bin < kDoubtBins; ++bin) {
      if (weight[bin] > 0) spent += std::sqrt(doubt[bin] * cost[bin]) / all;
    }
    for (std::size_t bin = 0; bin < kDoubtBins; ++bin) {
      if (!(weight[bin] > 0)) continue;
      const double wanted = rule.whole + std::max(0.0, left) / std::max(spent, 1e-9) *
                                             std::sqrt(doubt[bin] / cost[bin]);
      rule.probability[bin] = static_cast<float>(std::max(rule.whole, std::min(wanted, 0.9)));
    }
  }
  // Of an audit, from an exit to the last one with every head.
  double rest(std::size_t exit) const {
    const CostModel& costs = prices_.costs;
    return (costs.lambda1 * static_cast<double>(prices_.layer_of.back() - prices_.layer_of[exit]) +
            costs.lambda2 * static_cast<double>(prices_.last() - exit)) /
           costs.lambda();
  }

  PolicyOptions options_;
  const Prices& prices_;
  DisagreementModel model_;
  ChainPlanner planner_;
  bool doubtful_ = false;
};

bool same_chain(const Chain& a, const Chain& b) {
  if (a.at_once != b.at_once) return false;
  if (a.at_once) return true;
  if (a.first != b.first) return false;
  for (std::size_t exit = a.first; exit + 1 < a.looks.size(); exit = a.looks[exit].next) {
    if (a.looks[exit].threshold != b.looks[exit].threshold) return false;
    if (a.looks[exit].next != b.looks[exit].next) return false;
    if (a.looks[exit].next == kSendNext) return true;
  }
  return true;
}

std::string wrong_rule(const Rule& own, const Rule& slow) {
  const auto told = [](const std::string& what, double a, double b) {
    return what + ": " + std::to_string(a) + ", expected " + std::to_string(b);
  };
  if (!near(own.beta, slow.beta)) return told("beta", own.beta, slow.beta);
  if (!same_chain(own.chain, slow.chain)) return "another chain";
  if (!near(own.cost, slow.cost)) return told("cost", own.cost, slow.cost);
  if (!near(own.disagreement, slow.disagreement)) {
    return told("disagreement", own.disagreement, slow.disagreement);
  }
  if (!near(own.flattery, slow.flattery)) return told("flattery", own.flattery, slow.flattery);
  if (!near(own.whole, slow.whole)) return told("audits of all", own.whole, slow.whole);
  for (std::size_t bin = 0; bin < kDoubtBins; ++bin) {
    const auto a = static_cast<double>(own.probability[bin]);
    const auto b = static_cast<double>(slow.probability[bin]);
    if (!near(a, b, 1e-4)) return told("audits of bin " + std::to_string(bin), a, b);
  }
  return "";
}

}  // namespace

// A few rules, one after the other, on rows that become more.
Tried rule_case(Rng& rng) {
  PolicyOptions options = any_options(rng, 12);
  while (!(options.costs.lambda() < 1e3)) options.costs = any_costs(rng, options.layer_of.back());
  options.max_disagreement = any_of(rng, {0.0, 0.005, 0.02, 0.1, 0.5});
  if (one_in(rng, 4)) options.objective = Objective::kBudget;
  const Prices prices{options.costs, options.layer_of, one_in(rng, 2)};
  RuleMaker maker(options);
  SlowMaker slow(options, prices);
  Rule own_rule = maker.deepest(), slow_rule = own_rule;
  AuditRows rows(options.arms()), checks(options.arms());
  Tried tried;
  for (int step = 0; step < 4 && tried.difference.empty(); ++step, ++tried.compared) {
    for (std::size_t i = 0, more = 1 + rng.below(250); i < more; ++i) {
      const Row drawn = any_row(rng, options.arms(), false);
      (one_in(rng, 4) ? checks : rows).add(drawn.seen, 0, drawn.weight);
    }
    if (rows.size() == 0) continue;
    const RuleMaker::Search how{one_in(rng, 2), any_of(rng, {1.0, 1.3, 1.5}), 1000.0,
                                any_of(rng, {0.5, 2.0, 8.0}),
                                prices.link ? prices.at_once() : kNoSending};
    own_rule.next_plan = slow_rule.next_plan = 20 + rng.below(5000);
    maker.make(rows, checks, options.costs, prices.link, how, own_rule);
    slow.make(rows, checks, how, slow_rule);
    const double audited = any_of(rng, {1.0, 0.1, 0.0, rng.uniform()});
    maker.plan_audits(rows, audited, own_rule);
    slow.plan_audits(rows, audited, slow_rule);
    if (slow.doubtful()) return tried;
    tried.difference = wrong_rule(own_rule, slow_rule);
  }
  return tried;
}

}  // namespace splitee::policy::fuzzed
