#include "bench/decision/rivals.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <utility>

#include "base/rng.h"
#include "policy/learners/disagreement_model.h"

namespace splitee::bench {
namespace {

constexpr std::size_t kRows = 1000;       // run whole where none are known before
constexpr std::size_t kThresholds = 100;  // per first exit
constexpr double kLevel = 0.05;
constexpr std::array<double, 3> kAudited = {0.01, 0.03, 0.1};
constexpr std::array<double, 5> kBets = {0.03, 0.08, 0.2, 0.45,
                                         0.9};  // of the largest that is safe
constexpr std::array<double, 6> kPrices = {0.003, 0.01, 0.02, 0.05, 0.1, 0.2};
constexpr std::array<double, 5> kOffsets = {0.001, 0.003, 0.01, 0.03, 0.1};
constexpr std::size_t kArms =
    10;  // thresholds of the bandit: the quantiles of the rows' confidences
// Largest chance of another answer than the last exit's, of the bandit over reliability.
constexpr std::array<double, kArms> kUnreliable = {0.0005, 0.001, 0.002, 0.005, 0.01,
                                                   0.02,   0.05,  0.1,   0.2,   0.4};
constexpr std::size_t kBins = 16;
constexpr double kWidth = 0.52;  // of HI-LCB's confidence bounds

// What one sample comes to.
struct Step {
  double cost = 0;
  bool differs = false, audited = false;
};

// Collects as run() does.
class Recorder {
 public:
  Recorder(std::size_t samples, double limit)
      : half_(samples / 2), limit_(limit), from_(held_from(limit)) {}

  void add(const Step& step) {
    const auto to = [&](Part& part) {
      ++part.samples;
      part.cost += step.cost;
      part.differing += step.differs ? 1.0 : 0.0;
    };
    to(result.whole);
    if (result.whole.samples > half_) to(result.second);
    result.audited += step.audited ? 1 : 0;
    const auto count = static_cast<double>(result.whole.samples);
    if (count >= from_ && result.whole.differing > limit_ * count) result.over = true;
  }

  RunResult result;

 private:
  std::size_t half_;
  double limit_, from_;
};

// Of thresholds from one exit on.
class Rules {
 public:
  Rules(const Stream& stream, const Prices& prices, std::size_t first,
        std::span<const std::uint32_t> rows)
      : stream_(stream), prices_(prices), first_(first), last_(stream.exits - 1) {
    std::vector<float> all;
    for (const std::uint32_t row : rows) {
      for (std::size_t exit = first; exit < last_; ++exit) all.push_back(stream.at(row)[exit]);
    }
    std::ranges::sort(all);
    for (std::size_t i = 0; i < kThresholds; ++i) {
      thresholds_.push_back(all[i * (all.size() - 1) / (kThresholds - 1)]);
    }
    thresholds_.push_back(2.0f);
  }

  std::size_t never() const { return thresholds_.size() - 1; }
  // Every exit from the first to this one looked at.
  double cost_at(std::size_t exit) const {
    return prices_.begin(first_) +
           (prices_.layer + prices_.head) * static_cast<double>(exit - first_);
  }
  double full() const { return cost_at(last_); }
  std::size_t answers_at(std::size_t sample, std::size_t threshold) const {
    for (std::size_t exit = first_; exit < last_; ++exit) {
      if (stream_.at(sample)[exit] >= thresholds_[threshold]) return exit;
    }
    return last_;
  }
  bool differs(std::size_t sample, std::size_t threshold) const {
    const std::size_t exit = answers_at(sample, threshold);
    return exit < last_ && stream_.differs(sample, exit);
  }
  Step step(std::size_t sample, std::size_t threshold) const {
    const std::size_t exit = answers_at(sample, threshold);
    // A rule that never answers early looks at no exit on the way.
    if (threshold == never()) return {prices_.begin(last_)};
    return {cost_at(exit), exit < last_ && stream_.differs(sample, exit)};
  }

 private:
  const Stream& stream_;
  Prices prices_;
  std::size_t first_, last_;
  std::vector<float> thresholds_;  // ascending, then one that nothing reaches
};

// P(at most `differing` of `rows` differ | a share of `limit`).
double binomial_tail(std::size_t differing, std::size_t rows, double limit) {
  double sum = 0.0;
  const auto n = static_cast<double>(rows);
  for (std::size_t i = 0; i <= differing; ++i) {
    const auto k = static_cast<double>(i);
    sum += std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) +
                    k * std::log(limit) + (n - k) * std::log1p(-limit));
  }
  return sum;
}

// What `differing` of the rows have to be for a threshold to be accepted.
enum class Criterion { kTested, kInMean, kNoMargin };

bool accepted(Criterion criterion, std::size_t differing, std::size_t rows, double limit) {
  const auto count = static_cast<double>(rows), wrong = static_cast<double>(differing);
  switch (criterion) {
    case Criterion::kTested:
      return binomial_tail(differing, rows, limit) <= kLevel;
    case Criterion::kInMean:
      return (wrong + 1.0) / (count + 1.0) <= limit;
    case Criterion::kNoMargin:
      break;
  }
  return wrong <= limit * count;
}

// The least threshold, from the safest down, that all down to it are accepted.
std::size_t calibrated(const Rules& rules, std::span<const std::uint32_t> rows, double limit,
                       Criterion criterion) {
  std::size_t chosen = rules.never();
  for (std::size_t threshold = rules.never(); threshold-- > 0; chosen = threshold) {
    std::size_t differing = 0;
    for (const std::uint32_t row : rows) differing += rules.differs(row, threshold) ? 1 : 0;
    if (!accepted(criterion, differing, rows.size(), limit)) break;
  }
  return chosen;
}

// Where no rows are known before, the first samples are run whole and become them; how many.
std::size_t begin(std::span<const std::uint32_t>& rows, std::span<const std::uint32_t> order,
                  double full_cost, Recorder& recorder) {
  if (!rows.empty()) return 0;
  const std::size_t begun = std::min(kRows, order.size() / 4);
  rows = order.first(begun);
  for (std::size_t i = 0; i < begun; ++i) recorder.add({full_cost, false, true});
  return begun;
}

RunResult run_calibrated(const Rules& rules, double limit, Criterion criterion,
                         std::span<const std::uint32_t> rows,
                         std::span<const std::uint32_t> order) {
  Recorder recorder(order.size(), limit);
  const std::size_t begun = begin(rows, order, rules.full(), recorder);
  const std::size_t threshold = calibrated(rules, rows, limit, criterion);
  for (const std::uint32_t sample : order.subspan(begun)) {
    recorder.add(rules.step(sample, threshold));
  }
  return recorder.result;
}

// Wealth of bets that a threshold's share is at most E, one for every threshold and size of the
// bet.
class Wealth {
 public:
  Wealth(const Rules& rules, double limit)
      : rules_(rules), limit_(limit), chosen_(rules.never()), lost_(rules.never()) {}

  std::size_t chosen() const { return chosen_; }

  // What was not audited adds the same to all.
  void add(std::size_t sample, double probability, bool audited) {
    std::array<double, kBets.size()> loss{};
    for (std::size_t bet = 0; bet < kBets.size(); ++bet) {
      const double size = kBets[bet] / (1.0 / probability - limit_);
      won_[bet] += std::log1p(size * limit_);
      loss[bet] = std::log1p(size * limit_) - std::log1p(size * (limit_ - 1.0 / probability));
    }
    if (!audited) return;
    for (std::size_t threshold = 0; threshold < lost_.size(); ++threshold) {
      if (!rules_.differs(sample, threshold)) continue;
      for (std::size_t bet = 0; bet < kBets.size(); ++bet) lost_[threshold][bet] += loss[bet];
    }
    while (chosen_ > 0 && accepted(chosen_ - 1)) --chosen_;
  }

 private:
  bool accepted(std::size_t threshold) const {
    double mean = 0.0;
    for (std::size_t bet = 0; bet < kBets.size(); ++bet) {
      mean += std::exp(std::min(won_[bet] - lost_[threshold][bet], 50.0)) / kBets.size();
    }
    return mean >= 1.0 / kLevel;
  }

  const Rules& rules_;
  double limit_;
  std::size_t chosen_;
  std::array<double, kBets.size()> won_{};                // logs
  std::vector<std::array<double, kBets.size()>> lost_{};  // logs
};

RunResult run_active(const Rules& rules, double limit, double share,
                     std::span<const std::uint32_t> order, Rng& rng) {
  Recorder recorder(order.size(), limit);
  Wealth wealth(rules, limit);
  for (const std::uint32_t sample : order) {
    const std::size_t threshold = wealth.chosen();
    const double probability = threshold == rules.never() ? 1.0 : share;
    const bool audited = rng.uniform() < probability;
    Step step = rules.step(sample, threshold);
    if (audited) step.cost = rules.full();
    step.audited = audited;
    recorder.add(step);
    wealth.add(sample, probability, audited);
  }
  return recorder.result;
}

RunResult run_lower_bounds(const Stream& stream, const Prices& prices, std::size_t exit,
                           double gamma, double limit, std::span<const std::uint32_t> rows,
                           std::span<const std::uint32_t> order) {
  const std::size_t last = stream.exits - 1;
  std::vector<float> edges;
  for (const std::uint32_t row : rows.empty() ? order.first(kBins * 4) : rows) {
    edges.push_back(stream.at(row)[exit]);
  }
  std::ranges::sort(edges);
  const std::vector<float> all = edges;
  edges.clear();
  for (std::size_t i = 1; i < kBins; ++i) edges.push_back(all[i * all.size() / kBins]);
  std::array<double, kBins> seen{}, agreed{};
  const auto bin = [&](std::uint32_t sample) {
    return static_cast<std::size_t>(std::ranges::upper_bound(edges, stream.at(sample)[exit]) -
                                    edges.begin());
  };
  const auto learn = [&](std::uint32_t sample) {
    seen[bin(sample)] += 1.0;
    agreed[bin(sample)] += stream.differs(sample, exit) ? 0.0 : 1.0;
  };
  for (const std::uint32_t row : rows) learn(row);
  Recorder recorder(order.size(), limit);
  double t = 1.0 + static_cast<double>(rows.size());
  for (const std::uint32_t sample : order) {
    const std::size_t own = bin(sample);
    t += 1.0;
    const double bound = seen[own] > 0.0
                             ? agreed[own] / seen[own] - std::sqrt(kWidth * std::log(t) / seen[own])
                             : 0.0;
    if (bound >= 1.0 - gamma) {
      recorder.add({prices.begin(exit), stream.differs(sample, exit)});
      continue;
    }
    recorder.add({prices.begin(exit) + prices.run(exit, last), false, true});
    learn(sample);
  }
  return recorder.result;
}

// UCB1 over thresholds.
class Bandit {
 public:
  std::size_t choose() const {
    std::size_t best = 0;
    double highest = -1e9;
    for (std::size_t arm = 0; arm < kArms; ++arm) {
      if (pulls_[arm] == 0.0) return arm;
      const double index = sums_[arm] / pulls_[arm] + std::sqrt(2.0 * std::log(all_) / pulls_[arm]);
      if (index > highest) {
        highest = index;
        best = arm;
      }
    }
    return best;
  }
  void learn(std::size_t arm, double reward) {
    all_ += 1.0;
    pulls_[arm] += 1.0;
    sums_[arm] += reward;
  }

 private:
  double all_ = 1.0;
  std::array<double, kArms> pulls_{}, sums_{};
};

RunResult run_bandit(const Stream& stream, const Prices& prices, std::size_t exit, double offset,
                     double limit, std::span<const std::uint32_t> rows,
                     std::span<const std::uint32_t> order) {
  const std::size_t last = stream.exits - 1;
  std::vector<float> all;
  for (const std::uint32_t row : rows.empty() ? order.first(kRows) : rows) {
    all.push_back(stream.at(row)[exit]);
  }
  std::ranges::sort(all);
  Bandit bandit;
  Recorder recorder(order.size(), limit);
  for (const std::uint32_t sample : order) {
    const std::size_t arm = bandit.choose();
    const float confidence = stream.at(sample)[exit];
    if (confidence >= all[arm * all.size() / kArms]) {
      bandit.learn(arm, 0.0);
      recorder.add({prices.begin(exit), stream.differs(sample, exit)});
      continue;
    }
    bandit.learn(arm, static_cast<double>(stream.at(sample)[last] - confidence) - offset);
    recorder.add({prices.begin(exit) + prices.run(exit, last), false, true});
  }
  return recorder.result;
}

RunResult run_reliability_bandit(const Stream& stream, const Prices& prices, std::size_t first,
                                 double price, double limit, std::span<const std::uint32_t> rows,
                                 std::span<const std::uint32_t> order) {
  const std::size_t last = stream.exits - 1;
  Bandit bandit;
  Recorder recorder(order.size(), limit);
  const double full_cost = prices.begin(0) + prices.run(0, last);
  const std::size_t begun = begin(rows, order, full_cost, recorder);
  policy::DisagreementModel model(stream.exits);
  model.fit(audited(stream, rows.first(std::min(rows.size(), policy::AuditRows::kCapacity))), 8);
  for (const std::uint32_t sample : order.subspan(begun)) {
    const std::size_t arm = bandit.choose();
    std::size_t exit = first;
    double cost = prices.begin(first), reliability = 1.0;
    for (;; ++exit) {
      reliability = exit < last ? 1.0 - model.at(exit, stream.at(sample)[exit]) : 1.0;
      if (exit == last || 1.0 - reliability <= kUnreliable[arm]) break;
      cost += prices.run(exit, exit + 1);
    }
    bandit.learn(arm, static_cast<double>(stream.at(sample)[exit]) * reliability - price * cost);
    recorder.add({cost, exit < last && stream.differs(sample, exit), exit == last});
  }
  return recorder.result;
}

}  // namespace

std::vector<Rival> run_rivals(const Stream& stream, const Prices& prices, double limit,
                              std::span<const std::uint32_t> rows,
                              std::span<const std::uint32_t> order, std::uint64_t seed) {
  std::vector<Rival> results;
  Rng rng(mix_seed(seed + 17));
  char setting[64];
  for (std::size_t first = 0; first + 1 < stream.exits; ++first) {
    const Rules rules(stream, prices, first, rows.empty() ? order.first(kRows) : rows);
    std::snprintf(setting, sizeof setting, "from exit %zu", first + 1);
    for (const auto& [name, criterion] : {std::pair("learn, then test", Criterion::kTested),
                                          std::pair("risk control", Criterion::kInMean)}) {
      results.push_back({name, setting, run_calibrated(rules, limit, criterion, rows, order)});
    }
    for (const double share : kAudited) {
      std::snprintf(setting, sizeof setting, "from exit %zu, q %g", first + 1, share);
      results.push_back({"active, any time", setting, run_active(rules, limit, share, order, rng)});
    }
    for (const double gamma : kPrices) {
      std::snprintf(setting, sizeof setting, "exit %zu, gamma %g", first + 1, gamma);
      results.push_back({"lower bounds", setting,
                         run_lower_bounds(stream, prices, first, gamma, limit, rows, order)});
    }
    for (const double offset : kOffsets) {
      std::snprintf(setting, sizeof setting, "exit %zu, o %g", first + 1, offset);
      results.push_back(
          {"bandit", setting, run_bandit(stream, prices, first, offset, limit, rows, order)});
      results.push_back(
          {"reliability bandit", setting,
           run_reliability_bandit(stream, prices, first, offset, limit, rows, order)});
    }
    if (first > 0) continue;
    results.push_back(
        {"one threshold", "", run_calibrated(rules, limit, Criterion::kNoMargin, rows, order)});
  }
  return results;
}

}  // namespace splitee::bench
