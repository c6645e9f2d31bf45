#include "policy/learners/rule_maker.h"

#include <algorithm>
#include <cmath>

namespace splitee::policy {
namespace {

constexpr double kCaution = 1.4;
// Rows: about so much farther up than a normal distribution's lies the limit of a mean of which few
// have been counted (Poisson's).
constexpr double kFew = 0.6;
constexpr double kAuditShare = 0.013;   // of the mean cost, once learned
constexpr double kRewardShare = 0.25;   // of that, where no bound is to be earned
constexpr double kLeastAudits = 0.018;  // lambda a sample, where that share is less
constexpr double kWholeShare = 0.3;
constexpr double kLeastWhole = 5e-4;
constexpr double kDoubtfulMost = 0.9;
constexpr double kLeastCheck = 0.05;  // lambda
constexpr double kLeastBeta = 1.0, kMostBeta = 1e5;
constexpr int kFarSteps = 9, kNearSteps = 5;
constexpr std::size_t kFewestToFold = 100;
constexpr std::uint64_t kRewardFoldings = 4;
constexpr std::size_t kManyForReward = 256;  // rows, that a proposal can be taken on trust from
constexpr double kFoldings = 10.0, kLargestFlattery = 3.0;

// Which half of the rows a row belongs to, in the folding of a given number.
bool in_second_half(std::size_t row, std::uint64_t folding) {
  return ((std::uint64_t{row} * 2654435761u) >> (5 + folding % 13)) % 2 == 1;
}

}  // namespace

struct RuleMaker::Doubt {
  double weight = 0, disagreement = 0, cost = 0;
};

void Rule::archive(StateArchive& archive, std::size_t exits) {
  std::uint64_t at_once = chain.at_once ? 1 : 0;
  archive.word(at_once);
  std::size_t first = chain.first;
  archive.index(first, exits);
  if (archive.reading() && !archive.failed()) {
    if (at_once > 1) archive.refuse();
    chain.at_once = at_once != 0;
    chain.first = first;
  }
  for (std::size_t exit = 0; exit < exits; ++exit) {
    Look& look = chain.looks[exit];
    archive.packed({&look.threshold, 1}, kNeverAnswers);
    std::uint64_t next = look.next;
    archive.word(next);
    if (!archive.reading() || archive.failed()) continue;
    if (next != kSendNext && (next <= exit || next >= exits) && exit + 1 < exits) archive.refuse();
    look.next = static_cast<std::uint16_t>(next);
    if (look.next != next) archive.refuse();
  }
  for (double* value : {&beta, &cost, &disagreement, &flattery, &foldings, &whole}) {
    archive.non_negative(*value);
  }
  archive.packed(edges, 1.0f);
  archive.packed(probability, 1.0f);
  archive.word(next_plan);
  if (!archive.reading() || archive.failed()) return;
  const bool sound = beta >= kLeastBeta && beta <= kMostBeta && flattery <= kLargestFlattery &&
                     foldings <= kFoldings && whole >= kLeastWhole && whole <= 1.0 &&
                     std::ranges::min(probability) >= 0.0f;
  if (!sound) archive.refuse();
}

RuleMaker::RuleMaker(const PolicyOptions& options)
    : objective_(options.objective),
      limit_(options.max_disagreement),
      model_(options.arms()),
      planner_(options.layer_of),
      deepest_(planner_.deepest()),
      trial_(deepest_),
      best_(deepest_),
      half_(AuditRows::kCapacity) {
  planner_.set_prices(options.costs, false);
}

Rule RuleMaker::deepest() const {
  Rule rule;
  make_deepest(rule);
  return rule;
}

void RuleMaker::make_deepest(Rule& rule) const {
  rule.chain = deepest_;
  rule.beta = 100.0;
  rule.cost = planner_.full_cost();
  rule.disagreement = rule.foldings = 0.0;
  rule.flattery = rule.whole = 1.0;
  rule.edges.fill(0.0f);
  rule.probability.fill(1.0f);
}

void RuleMaker::make_at_once(Rule& rule) const {
  make_deepest(rule);
  rule.chain.at_once = true;
  rule.whole = kLeastWhole;
  rule.probability.fill(static_cast<float>(kLeastWhole));
}

bool RuleMaker::allowed(const ChainScore& own, const ChainScore& all, const Search& how,
                        const Rule& rule) const {
  if (objective_ == Objective::kBudget) return all.mean_cost() <= how.budget;
  const double expected = all.differing + (rule.flattery - 1.0) * own.differing;
  // One row more that differs: little evidence never looks like certainty.
  // What the stream itself does by chance, in rows.
  const double chance = limit_ * all.weight * all.weight / how.samples;
  const double deviation = std::sqrt(all.scatter + 1.0 + chance);
  return how.excess * expected + kCaution * deviation + kFew <= limit_ * all.weight;
}

// For a disagreement the chain of least cost that is allowed; for a budget that of least
// disagreement: in both cases the edge of what is allowed.
void RuleMaker::search(const AuditRows& rows, const AuditRows& checks, const Search& how,
                       Rule& rule) {
  const bool by_budget = objective_ == Objective::kBudget;
  const bool wide = how.young || by_budget;  // what a budget allows now changes from rule to rule
  const double middle = std::log(rule.beta);
  double low = wide ? std::log(kLeastBeta) : std::max(middle - 1.0, std::log(kLeastBeta));
  double high = wide ? std::log(kMostBeta) : std::min(middle + 1.0, std::log(kMostBeta));
  // Whatever little is known: neither differs from the last exit.
  best_ = deepest_;
  best_.at_once = how.sending < planner_.full_cost();
  ChainScore found, own_found;
  double beta_found = 0.0, least = std::min(how.sending, planner_.full_cost());
  bool kept = false;  // some chain is within the budget
  for (int i = 0; i < (wide ? kFarSteps : kNearSteps); ++i) {
    const double beta = 0.5 * (low + high);
    planner_.propose(rows, std::exp(beta), {}, trial_);
    const ChainScore own = planner_.score(rows, &model_, trial_);
    const ChainScore all = own + planner_.score(checks, nullptr, trial_);
    const bool good = allowed(own, all, how, rule);
    (good != by_budget ? high : low) = beta;
    // A budget below everything tried is served by the cheapest of it: the last.
    const bool better = by_budget ? good || !kept : good && all.mean_cost() < least;
    kept = kept || good;
    if (!better) continue;
    best_ = trial_;
    least = all.mean_cost();
    found = all;
    own_found = own;
    beta_found = std::exp(beta);
  }
  rule.chain = best_;
  rule.cost = least;
  rule.disagreement = beta_found > 0.0 ? found.disagreement() : 0.0;
  // exp(log(x)) may be more than x, which no state would hold.
  rule.beta = std::clamp(beta_found > 0.0 ? beta_found : std::exp(high), kLeastBeta, kMostBeta);
  if (beta_found > 0.0 && !by_budget) fold(rows, own_found.differing, rule);
}

void RuleMaker::fold(const AuditRows& rows, double expected, Rule& rule) {
  if (rows.size() < kFewestToFold) return;
  const std::span<std::uint8_t> half(half_.data(), rows.size());
  double counted = 0.0;
  for (const bool second : {false, true}) {
    for (std::size_t row = 0; row < rows.size(); ++row) {
      half[row] = in_second_half(row, rule.next_plan) == second ? 1 : 0;
    }
    planner_.propose(rows, rule.beta, half, trial_);
    counted += planner_.score(rows, nullptr, trial_, half).differing;
  }
  // One disagreement more on both sides.
  const double ratio = (counted + 1.0) / (expected + 1.0);
  rule.foldings = std::min(rule.foldings + 1.0, kFoldings);
  rule.flattery += (ratio - rule.flattery) / rule.foldings;
  rule.flattery = std::clamp(rule.flattery, 1.0 / kLargestFlattery, kLargestFlattery);
}

void RuleMaker::make(const AuditRows& rows, const AuditRows& checks, const CostModel& costs,
                     bool link, const Search& how, Rule& rule) {
  planner_.set_prices(costs, link);
  model_.fit(rows, how.young ? 4 : 1);
  if (objective_ != Objective::kReward) {
    planner_.set_disagreement(rows, model_);
    return search(rows, checks, how, rule);
  }
  planner_.set_confidence(rows);
  rule.beta = std::clamp(1.0 / std::max(costs.mu * costs.lambda(), 1e-9), kLeastBeta, kMostBeta);
  planner_.propose(rows, rule.beta, {}, rule.chain);
  if (link && !rule.chain.at_once && rows.size() < kManyForReward &&
      sends_better(rows, rule.beta, rule.next_plan)) {
    rule.chain.at_once = true;
  }
  const ChainScore score = planner_.score(rows, &model_, rule.chain);
  rule.cost = score.mean_cost();
  rule.disagreement = score.disagreement();
}

// Of the rows that do not count in `without`: what the chain costs, and what its answers'
// confidence lacks to 1 at that price.
double RuleMaker::price_of(const AuditRows& rows, double beta, const Chain& chain,
                           std::span<const std::uint8_t> without) const {
  double lacking = 0.0;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (without[row] != 0) continue;
    const std::size_t exit = planner_.answers_at(rows, chain, row);
    lacking += static_cast<double>(rows.weight()[row] * (1.0f - rows.confidence(exit)[row]));
  }
  return planner_.score(rows, nullptr, chain, without).cost + beta * lacking;
}

bool RuleMaker::sends_better(const AuditRows& rows, double beta, std::uint64_t seed) {
  const std::span<std::uint8_t> half(half_.data(), rows.size());
  double own = 0.0, sent = 0.0;
  best_ = deepest_;
  best_.at_once = true;
  for (std::uint64_t folding = seed; folding < seed + kRewardFoldings; ++folding) {
    for (const bool second : {false, true}) {
      for (std::size_t row = 0; row < rows.size(); ++row) {
        half[row] = in_second_half(row, folding) == second ? 1 : 0;
      }
      planner_.propose(rows, beta, half, trial_);
      own += price_of(rows, beta, trial_, half);
      sent += price_of(rows, beta, best_, half);
    }
  }
  return sent < own;
}

// What is expected of samples by their confidence at the first look.
void RuleMaker::doubt(const AuditRows& rows, Rule& rule,
                      std::array<Doubt, kDoubtBins>& bins) const {
  const std::size_t first = rule.chain.first;
  const std::span<const std::uint16_t> order = rows.order(first);
  const std::size_t count = order.size(), last = rows.exits() - 1;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t row = order[count - 1 - i];
    const std::size_t bin = i * kDoubtBins / count;
    const auto weight = static_cast<double>(rows.weight()[row]);
    const std::size_t answers = planner_.answers_at(rows, rule.chain, row);
    bins[bin].weight += weight;
    bins[bin].cost += weight * kLeastCheck;
    if (answers != last) {
      bins[bin].disagreement += weight * static_cast<double>(model_.of_rows(answers)[row]);
      bins[bin].cost += weight * planner_.audit_from(answers);
    }
    if (bin + 1 < kDoubtBins) rule.edges[bin] = rows.confidence(first)[row];
  }
}

void RuleMaker::plan_audits(const AuditRows& rows, double audited, Rule& rule) {
  const double whole_cost = std::max(0.1, planner_.full_row_cost() - rule.cost);
  const double part = objective_ == Objective::kReward ? kRewardShare : 1.0;
  const double steady = part * std::max(kAuditShare * rule.cost, kLeastAudits);
  const double budget = std::max(steady, audited * whole_cost);
  const bool by_doubt = objective_ != Objective::kReward && !rule.chain.at_once &&
                        rule.chain.first + 1 < rows.exits();
  const double share = by_doubt ? kWholeShare : 1.0;
  rule.whole = audited >= 1.0 ? 1.0 : std::clamp(share * budget / whole_cost, kLeastWhole, 1.0);
  rule.probability.fill(static_cast<float>(rule.whole));
  if (!by_doubt || rows.size() == 0) return;
  std::array<Doubt, kDoubtBins> bins{};
  doubt(rows, rule, bins);
  double all = 0.0, cost = 0.0;
  for (const Doubt& bin : bins) all += bin.weight;
  const auto strength = [](const Doubt& bin) { return std::sqrt(bin.disagreement / bin.cost); };
  for (const Doubt& bin : bins) {
    if (bin.weight > 0.0) cost += strength(bin) * bin.cost / all;
  }
  const double scale = (budget - rule.whole * whole_cost) / std::max(cost, 1e-9);
  for (std::size_t i = 0; i < kDoubtBins; ++i) {
    if (!(bins[i].weight > 0.0)) continue;
    const double wanted = rule.whole + std::max(0.0, scale) * strength(bins[i]);
    rule.probability[i] = static_cast<float>(std::max(rule.whole, std::min(wanted, kDoubtfulMost)));
  }
}

}  // namespace splitee::policy
