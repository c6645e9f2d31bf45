// What the parts of the default policy compute (policy/learners/audited.h), once more and plainly:
// from lists of everything, row by row, in double precision.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "policy/learners/rule_maker.h"
#include "tests/policy/reference.h"

namespace splitee::policy::reference {

// --- the bound: decision.md, "Proof of the certificate" ---

struct Coin {
  double probability = 0;
  bool audited = false, differs = false;
};

// Largest S that sum over lambda of exp(lambda S) product (1 - lambda A d / pi) / 14 < 1 / (1 -
// level) allows, between what is certain.
inline double slow_upper(const std::vector<Coin>& coins, double level) {
  long double low = 0, high = 0;
  for (const Coin& coin : coins) {
    low += coin.audited && coin.differs ? 1 : 0;
    high += !coin.audited || coin.differs ? 1 : 0;
  }
  const auto below = [&](long double count) {
    long double sum = 0;
    for (int i = 0; i < 14; ++i) {
      const long double lambda = 0.45L / static_cast<long double>(1 << i);
      long double log_part = lambda * count;
      bool used = true;
      for (const Coin& coin : coins) {
        const auto pi = static_cast<long double>(coin.probability);
        used = used && static_cast<double>(lambda) <= 0.9 * coin.probability;
        if (used && coin.audited && coin.differs) log_part += std::log1p(-lambda / pi);
      }
      if (used) sum += std::exp(log_part) / 14;
    }
    return sum < 1 / (1 - static_cast<long double>(level));
  };
  if (below(high)) return static_cast<double>(high);
  for (int i = 0; i < 200; ++i) {
    const long double middle = (low + high) / 2;
    (below(middle) ? low : high) = middle;
  }
  return static_cast<double>(high);
}

// --- the price of a chain on a row, in lambda ---

struct Prices {
  CostModel costs;
  std::vector<std::size_t> layer_of;
  bool link = false;

  std::size_t last() const { return layer_of.size() - 1; }
  double on(std::size_t from, std::size_t to) const {
    return (costs.lambda1 * static_cast<double>(layer_of[to] - layer_of[from]) + costs.lambda2) /
           costs.lambda();
  }
  double begin(std::size_t exit) const { return gamma(costs, layer_of[exit], 1) / costs.lambda(); }
  double send(std::size_t exit) const { return offload(costs, layer_of[exit]) / costs.lambda(); }
  double at_once() const { return offload(costs, 0) / costs.lambda(); }
  double whole() const { return gamma(costs, layer_of.back(), layer_of.size()) / costs.lambda(); }
};

struct Priced {
  double cost = 0;
  std::size_t answers = 0;  // exit; the last one where it is sent too
};

inline Priced price(const Prices& prices, const Chain& chain, const AuditRows& rows,
                    std::size_t row) {
  if (chain.at_once) return {prices.at_once(), prices.last()};
  std::size_t exit = chain.first;
  double cost = prices.begin(exit);
  while (exit < prices.last() && !(rows.confidence(exit)[row] >= chain.looks[exit].threshold)) {
    const std::size_t next = chain.looks[exit].next;
    if (next == kSendNext) return {cost + prices.send(exit), prices.last()};
    cost += prices.on(exit, next);
    exit = next;
  }
  return {cost, exit};
}

// Half counted and half what the model says; all counted without one.
inline ChainScore score(const Prices& prices, const Chain& chain, const AuditRows& rows,
                        const DisagreementModel* model,
                        const std::vector<std::uint8_t>& without = {}) {
  ChainScore sum;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (!without.empty() && without[row] != 0) continue;
    const Priced priced = price(prices, chain, rows, row);
    const auto w = static_cast<double>(rows.weight()[row]);
    double differs = 0;
    if (priced.answers != prices.last()) {
      differs = static_cast<double>(rows.differs(priced.answers)[row]);
      if (model != nullptr) {
        differs = (differs + static_cast<double>(model->of_rows(priced.answers)[row])) / 2;
      }
    }
    sum.weight += w;
    sum.cost += w * priced.cost;
    sum.differing += w * differs;
    sum.scatter += w * w * differs;
  }
  return sum;
}

// --- the chain for a price of a loss: backward induction as chain_planner.h says ---

class Induction {
 public:
  // `loss` (exits, rows): of answering a row at an exit.
  Induction(const Prices& prices, const AuditRows& rows, std::vector<std::vector<double>> loss,
            double beta, std::vector<bool> only)
      : prices_(prices),
        rows_(rows),
        loss_(std::move(loss)),
        beta_(beta),
        only_(std::move(only)),
        chain_{false, 0, std::vector<Look>(prices.layer_of.size())},
        values_(prices.layer_of.size(), std::vector<double>(rows.size())) {}

  Chain chain() {
    for (std::size_t exit = prices_.last(); exit-- > 0;) improve(exit, only_);
    pick_first();
    for (int i = 0; i < 2 && !chain_.at_once; ++i) {
      // Again, from the deepest look on the way to the first, for the rows that reach it.
      std::vector<std::size_t> path;
      for (std::size_t exit = chain_.first; exit < prices_.last();) {
        path.push_back(exit);
        const std::size_t next = chain_.looks[exit].next;
        exit = next == kSendNext ? prices_.last() : next;
      }
      for (; !path.empty(); path.pop_back()) improve(path.back(), arrivals(path.back()));
    }
    pick_first();
    return chain_;
  }

 private:
  // What a row costs from an exit on, its own head not counted, as of when the exit's look was last
  // improved: exits off the path keep what they had.
  double value(std::size_t row, std::size_t exit) const {
    return exit == prices_.last() ? beta_ * loss_[exit][row] : values_[exit][row];
  }
  void set_values(std::size_t exit) {
    const Look& look = chain_.looks[exit];
    for (std::size_t row = 0; row < rows_.size(); ++row) {
      const bool answers = rows_.confidence(exit)[row] >= look.threshold;
      values_[exit][row] = answers ? beta_ * loss_[exit][row] : on(row, exit, look.next);
    }
  }
  double weight(std::size_t row) const { return static_cast<double>(rows_.weight()[row]); }

  std::vector<bool> arrivals(std::size_t exit) const {
    std::vector<bool> there = only_;
    for (std::size_t look = chain_.first; look < exit; look = chain_.looks[look].next) {
      for (std::size_t row = 0; row < there.size(); ++row) {
        if (rows_.confidence(look)[row] >= chain_.looks[look].threshold) there[row] = false;
      }
    }
    return there;
  }

  // Every threshold between two confidences with every next step; the first of equals.
  void improve(std::size_t exit, const std::vector<bool>& only) {
    std::vector<std::size_t> order;
    for (const std::uint16_t row : rows_.order(exit)) {
      if (only[row]) order.push_back(row);
    }
    std::vector<std::size_t> nexts;
    for (std::size_t next = exit + 1; next <= prices_.last(); ++next) nexts.push_back(next);
    if (prices_.link) nexts.push_back(kSendNext);
    Look best{kNeverAnswers, static_cast<std::uint16_t>(exit + 1)};
    double least = std::numeric_limits<double>::infinity();
    for (const std::size_t next : nexts) {
      for (std::size_t answered = 0; answered <= order.size(); ++answered) {
        if (parts_equals(exit, order, answered)) continue;
        double sum = 0;
        for (std::size_t i = 0; i < order.size(); ++i) {
          const std::size_t row = order[i];
          sum += weight(row) * (i < answered ? beta_ * loss_[exit][row] : on(row, exit, next));
        }
        if (!(sum < least)) continue;
        least = sum;
        best = {threshold(exit, order, answered), static_cast<std::uint16_t>(next)};
      }
    }
    chain_.looks[exit] = best;
    set_values(exit);
  }
  double on(std::size_t row, std::size_t exit, std::size_t next) const {
    if (next == kSendNext) return prices_.send(exit) + beta_ * loss_[prices_.last()][row];
    return prices_.on(exit, next) + value(row, next);
  }
  // No threshold answers one of two equal confidences alone.
  bool parts_equals(std::size_t exit, const std::vector<std::size_t>& order,
                    std::size_t answered) const {
    if (answered == 0 || answered == order.size()) return false;
    const std::span<const float> confidence = rows_.confidence(exit);
    return confidence[order[answered - 1]] == confidence[order[answered]];
  }
  // In the middle between the last that is answered and the next.
  float threshold(std::size_t exit, const std::vector<std::size_t>& order,
                  std::size_t answered) const {
    if (answered == 0) return kNeverAnswers;
    if (answered == order.size()) return 0.0f;
    const std::span<const float> confidence = rows_.confidence(exit);
    return (confidence[order[answered - 1]] + confidence[order[answered]]) / 2;
  }

  void pick_first() {
    const std::size_t last = prices_.last();
    const auto mean = [&](auto of_row) {
      double sum = 0, weights = 0;
      for (std::size_t row = 0; row < rows_.size(); ++row) {
        if (!only_[row]) continue;
        sum += weight(row) * of_row(row);
        weights += weight(row);
      }
      return sum / weights;
    };
    double best = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i <= last; ++i) {
      const std::size_t exit = i == 0 ? last : i - 1;  // running everything first
      const double cost = mean([&](std::size_t row) { return value(row, exit); });
      if (cost + prices_.begin(exit) < best) chain_.first = exit;
      best = std::min(best, cost + prices_.begin(exit));
    }
    const double answer = mean([&](std::size_t row) { return beta_ * loss_[last][row]; });
    chain_.at_once = prices_.link && prices_.at_once() + answer <= best;
  }

  const Prices& prices_;
  const AuditRows& rows_;
  std::vector<std::vector<double>> loss_;
  double beta_;
  std::vector<bool> only_;
  Chain chain_;
  std::vector<std::vector<double>> values_;  // (exits, rows)
};

}  // namespace splitee::policy::reference
