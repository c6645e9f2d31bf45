// The parts of the default policy against reference_audited.h.
#include <cmath>

#include "policy/learners/disagreement_bound.h"
#include "policy/learners/disagreement_estimate.h"
#include "tests/policy/decision_fuzz.h"
#include "tests/policy/decision_stream.h"
#include "tests/policy/reference_audited.h"

namespace splitee::policy::fuzzed {
namespace {

using reference::Coin;
using reference::Prices;

bool near(double a, double b, double tolerance = 1e-6) {
  return std::abs(a - b) <= tolerance * (1.0 + std::abs(b));
}
std::string told(const std::string& what, double value, double expected) {
  return what + ": " + std::to_string(value) + ", expected " + std::to_string(expected);
}

// --- the bound and the estimate ---

Tried bound_case(Rng& rng) {
  DisagreementBound bound;
  DisagreementEstimate estimate;
  std::vector<Coin> coins;
  // Just below, at and above where a lambda is given up, too.
  const double edge = std::ldexp(0.5, -static_cast<int>(rng.below(6)));
  const double rare = any_of(rng, {1.0, 0.3, 0.02, edge, 0.95 * edge, 0.89 * edge, 1.01 * edge});
  const double wrong = any_of(rng, {0.0, 0.01, 0.3, 1.0});
  const std::size_t count = rng.below(400);
  double differing = 0, seen = 0, unseen = 0;
  for (std::size_t i = 0; i < count; ++i) {
    Coin coin{rare + (1 - rare) * rng.uniform() * any_of(rng, {0.0, 1.0})};
    coin.audited = rng.uniform() < coin.probability;
    coin.differs = rng.uniform() < wrong;
    coins.push_back(coin);
    bound.add(coin.probability, coin.audited, coin.differs);
    const double expected = rng.uniform();
    estimate.add(expected, coin.audited, coin.differs);
    differing += coin.audited && coin.differs ? 1 : 0;
    (coin.audited ? seen : unseen) += expected;
  }
  Tried tried{count, ""};
  for (const double level : {0.5, 0.9, 0.95, 0.999}) {
    const double slow = reference::slow_upper(coins, level);
    if (!near(bound.upper(level), slow)) tried.difference = told("upper", bound.upper(level), slow);
  }
  const double all = differing + unseen * (1 + differing) / (1 + seen);
  if (!near(estimate.all(), all)) tried.difference = told("estimate", estimate.all(), all);
  return tried;
}

// --- rows ---

// The newest rows in the places of the oldest; a row that lacks exits gets them from the nearest.
class PlainRows {
 public:
  void add(const Row& drawn) {
    const std::size_t place =
        count_ < AuditRows::kCapacity ? count_ : count_ % AuditRows::kCapacity;
    ++count_;
    if (place == rows_.size()) rows_.emplace_back();
    const Row* const like = drawn.from > 0 ? nearest(drawn, place) : nullptr;
    Row full = drawn;
    for (std::size_t exit = 0; exit < drawn.from; ++exit) {
      full.seen[exit] = like != nullptr ? like->seen[exit] : 0.0f;
    }
    rows_[place] = full;
  }
  const std::vector<Row>& rows() const { return rows_; }

 private:
  const Row* nearest(const Row& drawn, std::size_t place) const {
    const float own = drawn.seen[drawn.from];
    const Row* best = nullptr;
    float least = 0;
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      if (i == place || rows_[i].from > 0) continue;
      const float other = rows_[i].seen[drawn.from];
      float gap = std::abs(std::abs(other) - std::abs(own));
      if (std::signbit(other) != std::signbit(own)) gap += 2;
      if (best != nullptr && !(gap < least)) continue;
      best = &rows_[i];
      least = gap;
    }
    return best;
  }

  std::size_t count_ = 0;
  std::vector<Row> rows_;
};

std::string wrong_rows(const AuditRows& rows, const std::vector<Row>& expected) {
  if (rows.size() != expected.size()) return "another number of rows";
  for (std::size_t exit = 0; exit < rows.exits(); ++exit) {
    std::vector<std::size_t> order(expected.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
      const float seen = expected[i].seen[exit];
      if (rows.confidence(exit)[i] != std::abs(seen) ||
          (rows.differs(exit)[i] != 0) != std::signbit(seen)) {
        return "row " + std::to_string(i) + ", exit " + std::to_string(exit) + " is another";
      }
      order[i] = i;
    }
    std::ranges::stable_sort(order, std::greater<>(),
                             [&](std::size_t i) { return std::abs(expected[i].seen[exit]); });
    if (!std::ranges::equal(order, rows.order(exit))) return "another order";
  }
  return "";
}

Tried rows_case(Rng& rng) {
  const std::size_t exits = 1 + rng.below(6), count = rng.below(one_in(rng, 3) ? 2600 : 200);
  AuditRows rows(exits);
  PlainRows plain;
  for (std::size_t i = 0; i < count; ++i) {
    const Row drawn = any_row(rng, exits, true);
    rows.add(drawn.seen, drawn.from, drawn.weight);
    plain.add(drawn);
  }
  return {count, wrong_rows(rows, plain.rows())};
}

// --- the price of every rule of the families, and the search for one ---

Prices any_prices(Rng& rng, std::size_t exits) {
  Prices prices;
  std::size_t layer = 0;
  for (std::size_t exit = 0; exit < exits; ++exit) {
    prices.layer_of.push_back(layer += 1 + (one_in(rng, 3) ? rng.below(3) : 0));
  }
  do prices.costs = any_costs(rng, layer);
  while (!(prices.costs.lambda() < 1e3));
  prices.link = one_in(rng, 2);
  return prices;
}

AuditRows any_rows(Rng& rng, std::size_t exits, std::size_t count) {
  AuditRows rows(exits);
  for (std::size_t i = 0; i < count; ++i) {
    const Row drawn = any_row(rng, exits, false);
    rows.add(drawn.seen, 0, drawn.weight);
  }
  return rows;
}

// Always exit k, a threshold from exit k on, looks at a few exits, sending at the end or at once.
Chain any_chain(Rng& rng, const Prices& prices, const AuditRows& rows) {
  const std::size_t exits = prices.layer_of.size();
  Chain chain{prices.link && one_in(rng, 10), rng.below(static_cast<std::uint32_t>(exits)),
              std::vector<Look>(exits)};
  const bool same = one_in(rng, 3);
  const auto threshold = [&](std::size_t exit) {
    if (rows.size() == 0 || one_in(rng, 6)) return one_in(rng, 2) ? 0.0f : kNeverAnswers;
    return rows.confidence(exit)[rng.below(static_cast<std::uint32_t>(rows.size()))];
  };
  const float shared = threshold(0);
  for (std::size_t exit = 0; exit + 1 < exits; ++exit) {
    const auto behind = static_cast<std::uint32_t>(exits - 1 - exit);
    const std::size_t next = exit + 1 + (same ? 0 : rng.below(behind));
    const bool sends = prices.link && one_in(rng, 4);
    chain.looks[exit] = {same ? shared : threshold(exit),
                         sends ? kSendNext : static_cast<std::uint16_t>(next)};
  }
  return chain;
}

std::string wrong_score(const ChainScore& own, const ChainScore& slow) {
  if (!near(own.weight, slow.weight)) return told("weight", own.weight, slow.weight);
  if (!near(own.cost, slow.cost)) return told("cost", own.cost, slow.cost);
  if (!near(own.differing, slow.differing)) return told("differ", own.differing, slow.differing);
  if (!near(own.scatter, slow.scatter)) return told("scatter", own.scatter, slow.scatter);
  return "";
}

Tried price_case(Rng& rng) {
  const std::size_t exits = 1 + rng.below(14), count = 1 + rng.below(300);
  const Prices prices = any_prices(rng, exits);
  const AuditRows rows = any_rows(rng, exits, count);
  ChainPlanner planner(prices.layer_of);
  planner.set_prices(prices.costs, prices.link);
  DisagreementModel model(exits);
  model.fit(rows, 4);
  Tried tried;
  for (int i = 0; i < 40 && tried.difference.empty(); ++i, ++tried.compared) {
    const Chain chain = any_chain(rng, prices, rows);
    std::vector<std::uint8_t> without(one_in(rng, 2) ? count : 0);
    for (std::uint8_t& left_out : without) left_out = rng.below(2) != 0 ? 1 : 0;
    const DisagreementModel* const used = one_in(rng, 2) ? &model : nullptr;
    tried.difference = wrong_score(planner.score(rows, used, chain, without),
                                   reference::score(prices, chain, rows, used, without));
    for (std::size_t row = 0; row < count; ++row) {
      if (planner.answers_at(rows, chain, row) == price(prices, chain, rows, row).answers) continue;
      tried.difference = "row " + std::to_string(row) + " is answered elsewhere";
    }
  }
  return tried;
}

std::string text_of(const Chain& chain) {
  if (chain.at_once) return "sent at once";
  std::string text = "from " + std::to_string(chain.first);
  for (std::size_t exit = chain.first; exit + 1 < chain.looks.size();) {
    text += " at ";
    text += std::to_string(static_cast<double>(chain.looks[exit].threshold));
    if (chain.looks[exit].next == kSendNext) return text + " sent";
    exit = chain.looks[exit].next;
    text += ", ";
    text += std::to_string(exit);
  }
  return text;
}

// Numbers whose sums no float rounds, so that the chains must be the same to the last threshold.
AuditRows exact_rows(Rng& rng, std::size_t exits, std::size_t count) {
  std::vector<std::vector<float>> columns(exits);
  const bool few = one_in(rng, 2);
  for (std::vector<float>& column : columns) {
    std::vector<int> values(64);
    std::iota(values.begin(), values.end(), 1);
    shuffle(std::span(values), rng);
    for (int& value : values) value = few ? 1 + value / 8 * 7 : value;
    for (std::size_t i = 0; i < count; ++i) column.push_back(static_cast<float>(values[i]) / 64);
  }
  AuditRows rows(exits);
  std::vector<float> seen(exits);
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t exit = 0; exit < exits; ++exit) seen[exit] = columns[exit][i];
    rows.add(seen, 0, 0.25f * static_cast<float>(1 + rng.below(16)));
  }
  return rows;
}

Tried proposal_case(Rng& rng) {
  const std::size_t exits = 1 + rng.below(one_in(rng, 4) ? 20 : 5);
  const std::size_t count = 1 + rng.below(exits > 5 ? 12 : 40);
  Prices prices = any_prices(rng, exits);
  prices.costs = {.lambda1 = 0.75, .lambda2 = 0.25, .offload = 0.25 * rng.below(30)};
  prices.costs.last_layer_spared = any_of(rng, {0.0, 0.5, 1.0});
  if (one_in(rng, 3)) {
    prices.costs.offload_by_layer.resize(prices.layer_of.back());
    for (double& cost : prices.costs.offload_by_layer) cost = 0.25 * rng.below(30);
  }
  const AuditRows rows = exact_rows(rng, exits, count);
  const double beta = std::ldexp(1.0, static_cast<int>(rng.below(8)) - 1);
  std::vector<bool> only(count, true);
  std::vector<std::uint8_t> half;
  if (one_in(rng, 3)) {
    for (std::size_t row = 0; row < count; ++row) only[row] = row == 0 || one_in(rng, 2);
    for (const bool counts : only) half.push_back(counts ? 1 : 0);
  }
  ChainPlanner planner(prices.layer_of);
  planner.set_prices(prices.costs, prices.link);
  planner.set_confidence(rows);
  Chain chain = planner.deepest();
  planner.propose(rows, beta, half, chain);
  std::vector<std::vector<double>> loss(exits, std::vector<double>(count));
  for (std::size_t exit = 0; exit < exits; ++exit) {
    for (std::size_t row = 0; row < count; ++row) {
      loss[exit][row] = 1 - static_cast<double>(rows.confidence(exit)[row]);
    }
  }
  const Chain slow = reference::Induction(prices, rows, loss, beta, only).chain();
  Tried tried{1, ""};
  if (text_of(chain) != text_of(slow)) tried.difference = text_of(chain) + ", not " + text_of(slow);
  return tried;
}

}  // namespace

std::vector<Family> audited_families() {
  return {{"bound", bound_case},
          {"rows", rows_case},
          {"price", price_case},
          {"proposal", proposal_case},
          {"rule", rule_case}};
}

}  // namespace splitee::policy::fuzzed
