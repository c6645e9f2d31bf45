#include "bench/decision/ruler.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "policy/learners/chain_planner.h"

namespace splitee::bench {
namespace {

using Samples = std::span<const std::uint32_t>;

constexpr std::size_t kQuantiles = 64;  // thresholds tried per exit
constexpr std::size_t kCommon = 120;    // thresholds tried for all exits alike
constexpr int kLevels = 40;             // of a logistic curve
constexpr int kPrices = 24;             // of a disagreement, there

// Indices of the hull's members.
std::vector<std::size_t> hull_members(const std::vector<Point>& points) {
  std::vector<std::size_t> order(points.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::sort(order, [&](std::size_t a, std::size_t b) {
    const Point &p = points[a], &q = points[b];
    return p.disagreement < q.disagreement || (p.disagreement == q.disagreement && p.cost < q.cost);
  });
  std::vector<std::size_t> hull;
  for (const std::size_t i : order) {
    const Point& c = points[i];
    if (!hull.empty() && c.cost >= points[hull.back()].cost) continue;
    while (hull.size() >= 2) {
      const Point &a = points[hull[hull.size() - 2]], &b = points[hull.back()];
      const double turn = (b.cost - a.cost) * (c.disagreement - a.disagreement) -
                          (c.cost - a.cost) * (b.disagreement - a.disagreement);
      if (turn < 0.0) break;
      hull.pop_back();
    }
    hull.push_back(i);
  }
  return hull;
}

// What a rule does with one sample.
using Walk = std::function<Point(std::size_t sample)>;

struct Candidate {
  Walk walk;
  Point tuned;
};

class Tuner {
 public:
  Tuner(const Stream& stream, const Prices& prices, Samples tune)
      : stream_(stream), prices_(prices), tune_(tune), last_(stream.exits - 1) {
    make_grids();
  }

  using Family = std::vector<Candidate>;

  // Keeps the hull of a family only.
  Family kept(Family family) const {
    std::vector<Point> points;
    for (const Candidate& candidate : family) points.push_back(candidate.tuned);
    Family hull;
    for (const std::size_t i : hull_members(points)) hull.push_back(std::move(family[i]));
    return hull;
  }

  Family simple() const {
    Family family;
    add(family, [this](std::size_t) { return Point{0.0, prices_.begin(last_)}; });
    if (prices_.link()) add(family, [this](std::size_t) { return Point{0.0, prices_.offload}; });
    for (std::size_t k = 0; k < last_; ++k) {
      add(family, [this, k](std::size_t s) { return answer(s, k, prices_.begin(k)); });
    }
    return kept(std::move(family));
  }

  // From exit k on, the first that is sure.
  Family threshold_from(std::size_t least_first, std::size_t most_first) const {
    Family family;
    for (std::size_t k = least_first; k <= most_first; ++k) add_thresholds_from(family, k);
    return kept(std::move(family));
  }

  Family cascades_that_send() const {
    Family family;
    for (std::size_t k = 0; k < last_ && prices_.link(); ++k) {
      for (std::size_t m = k; m < last_; ++m) add_cascades(family, k, m);
      family = kept(std::move(family));
    }
    return family;
  }

  Family one_look(bool send) const {
    Family family;
    for (std::size_t k = 0; k < last_; ++k) add_one_look(family, k, send);
    return kept(std::move(family));
  }

  Family two_looks(bool send) const {
    Family family;
    for (std::size_t k = 0; k + 1 < last_; ++k) {
      for (std::size_t m = k + 1; m < last_; ++m) add_two_looks(family, k, m, send);
      family = kept(std::move(family));
    }
    return family;
  }

  Family patience() const {
    Family family;
    for (std::size_t wanted = 1; wanted < stream_.exits; ++wanted) {
      add(family, [this, wanted](std::size_t s) {
        std::size_t same = 0;
        double cost = prices_.begin(0);
        const std::int16_t* const answers = &stream_.answer[s * stream_.exits];
        for (std::size_t k = 0; k < last_; ++k) {
          if (k > 0) cost += prices_.run(k - 1, k);
          same = k > 0 && answers[k] == answers[k - 1] ? same + 1 : 0;
          if (same >= wanted) return answer(s, k, cost);
        }
        return Point{0.0, cost + prices_.run(last_ - 1, last_)};
      });
    }
    return kept(std::move(family));
  }

  // Thresholds of every exit's own: by backward induction, and those at which a logistic curve
  // crosses one level, from exit k on.
  Family stopping() const {
    std::vector<std::size_t> layers;
    for (std::size_t k = 0; k < stream_.exits; ++k) layers.push_back(k + 1);
    const policy::AuditRows rows = audited(stream_, tune_);
    policy::DisagreementModel model(stream_.exits);
    model.fit(rows, 8);
    policy::ChainPlanner planner(layers);
    policy::CostModel costs{.lambda1 = prices_.layer, .lambda2 = prices_.head};
    if (prices_.link()) costs.offload = prices_.offload;
    planner.set_prices(costs, prices_.link());
    planner.set_disagreement(rows, model);
    Family family;
    for (int i = 0; i < kPrices; ++i) {
      policy::Chain chain = planner.deepest();
      planner.propose(rows, std::exp(1.5 + 0.35 * i), {}, chain);
      add(family, [this, chain](std::size_t s) { return follow(s, chain); });
    }
    const LogisticThresholds logistic = logistic_thresholds(model);
    for (std::size_t k = 0; k < last_; ++k) add_logistic(family, logistic, k);
    return kept(std::move(family));
  }

 private:
  bool sure(std::size_t s, std::size_t k, float threshold) const {
    return stream_.at(s)[k] >= threshold;
  }
  Point answer(std::size_t s, std::size_t k, double cost) const {
    return {stream_.differs(s, k) ? 1.0 : 0.0, cost};
  }

  Point cascade(std::size_t s, std::size_t k, std::size_t m, float threshold) const {
    double cost = prices_.begin(k);
    for (std::size_t exit = k;; ++exit) {
      if (sure(s, exit, threshold)) return answer(s, exit, cost);
      if (exit == m) return {0.0, cost + prices_.offload};
      cost += prices_.run(exit, exit + 1);
    }
  }

  Point follow(std::size_t s, const policy::Chain& chain) const {
    if (chain.at_once) return {0.0, prices_.offload};
    double cost = prices_.begin(chain.first);
    for (std::size_t exit = chain.first; exit < last_;) {
      const policy::Look& look = chain.looks[exit];
      if (sure(s, exit, look.threshold)) return answer(s, exit, cost);
      if (look.next == policy::kSendNext) return {0.0, cost + prices_.offload};
      cost += prices_.run(exit, look.next);
      exit = look.next;
    }
    return {0.0, cost};
  }

  // Per level, ascending thresholds, and exit: where the logistic curve falls below the level.
  using LogisticThresholds = std::vector<std::vector<float>>;

  LogisticThresholds logistic_thresholds(const policy::DisagreementModel& model) const {
    LogisticThresholds levels;
    for (int i = kLevels - 1; i >= 0; --i) {
      const double level = std::exp(-9.0 + 0.2 * i);
      std::vector<float> thresholds(last_, policy::kNeverAnswers);
      for (std::size_t k = 0; k < last_; ++k) {
        const auto found = std::ranges::find_if(
            grid_[k], [&](float t) { return !(model.at(k, std::min(t, 1.0f)) > level); });
        if (found != grid_[k].end()) thresholds[k] = *found;
      }
      levels.push_back(std::move(thresholds));
    }
    return levels;
  }

  void add_logistic(Family& family, const LogisticThresholds& levels, std::size_t first) const {
    const std::vector<Point> points =
        sweep(first, last_ - 1, prices_.run(last_ - 1, last_), levels.size(),
              [&](std::size_t s, std::size_t k) {
                const float confidence = stream_.at(s)[k];
                std::size_t sure = 0;
                while (sure < levels.size() && confidence >= levels[sure][k]) ++sure;
                return sure;
              });
    for (std::size_t i = 0; i < levels.size(); ++i) {
      policy::Chain chain{.first = first, .looks = std::vector<policy::Look>(stream_.exits)};
      for (std::size_t k = first; k < last_; ++k) {
        chain.looks[k] = {.threshold = levels[i][k], .next = static_cast<std::uint16_t>(k + 1)};
      }
      family.push_back({[this, chain](std::size_t s) { return follow(s, chain); }, points[i]});
    }
  }

  void add(Family& family, Walk walk) const {
    Point sum;
    for (const std::uint32_t s : tune_) {
      const Point one = walk(s);
      sum.disagreement += one.disagreement;
      sum.cost += one.cost;
    }
    const auto count = static_cast<double>(tune_.size());
    family.push_back({std::move(walk), {sum.disagreement / count, sum.cost / count}});
  }

  // `count` rules at one go, which look at every exit from `first` to `most` and pay `rest` where
  // none is sure. They are in order of ascending thresholds: of them, the first sure(sample, exit)
  // are sure there, so that a sample leaves at k those in [most of the exits before, its own
  // there).
  template <class Sure>
  std::vector<Point> sweep(std::size_t first, std::size_t most, double rest, std::size_t rules,
                           const Sure& sure) const {
    std::vector<Point> points(rules + 1);
    for (const std::uint32_t s : tune_) {
      std::size_t begin = 0;
      double cost = prices_.begin(first);
      for (std::size_t k = first; k <= most && begin < rules; ++k) {
        if (k > first) cost += prices_.run(k - 1, k);
        const std::size_t end = sure(s, k);
        if (end <= begin) continue;
        const Point one = answer(s, k, cost);
        points[begin].disagreement += one.disagreement;
        points[end].disagreement -= one.disagreement;
        points[begin].cost += one.cost;
        points[end].cost -= one.cost;
        begin = end;
      }
      if (begin < rules) points[begin].cost += cost + rest;
    }
    const auto count = static_cast<double>(tune_.size());
    Point sum;
    for (Point& point : points) {
      sum.disagreement += point.disagreement;
      sum.cost += point.cost;
      point = {sum.disagreement / count, sum.cost / count};
    }
    points.pop_back();
    return points;
  }
  // Number of common thresholds at which the sample is sure.
  std::size_t common_below(std::size_t s, std::size_t exit) const {
    return places_[s * last_ + exit];
  }

  void add_thresholds_from(Family& family, std::size_t first) const {
    const std::vector<Point> points =
        sweep(first, last_ - 1, prices_.run(last_ - 1, last_), common_.size(),
              [this](std::size_t s, std::size_t k) { return common_below(s, k); });
    for (std::size_t i = 0; i < common_.size(); ++i) {
      const float t = common_[i];
      family.push_back({[this, first, t](std::size_t s) { return from(s, first, t); }, points[i]});
    }
  }

  void add_cascades(Family& family, std::size_t first, std::size_t most) const {
    const std::vector<Point> points =
        sweep(first, most, prices_.offload, common_.size(),
              [this](std::size_t s, std::size_t k) { return common_below(s, k); });
    for (std::size_t i = 0; i < common_.size(); i += 4) {
      const float t = common_[i];
      family.push_back(
          {[this, first, most, t](std::size_t s) { return cascade(s, first, most, t); },
           points[i]});
    }
  }

  void add_one_look(Family& family, std::size_t k, bool send) const {
    std::vector<double> unsure(grid_[k].size() + 1), wrong(grid_[k].size() + 1);
    double all_wrong = 0.0;
    for (const std::uint32_t s : tune_) {
      const std::size_t i = bin(k, s);
      unsure[i] += 1.0;
      if (!stream_.differs(s, k)) continue;
      wrong[i] += 1.0;
      all_wrong += 1.0;
    }
    const auto count = static_cast<double>(tune_.size());
    const double rest = send ? prices_.offload : prices_.run(k, last_);
    double left = 0.0, left_wrong = 0.0;
    for (std::size_t i = 0; i < grid_[k].size(); ++i) {
      left += unsure[i];
      left_wrong += wrong[i];
      const float t = grid_[k][i];
      family.push_back(
          {[this, k, t, rest](std::size_t s) {
             return sure(s, k, t) ? answer(s, k, prices_.begin(k))
                                  : Point{0.0, prices_.begin(k) + rest};
           },
           {(all_wrong - left_wrong) / count, prices_.begin(k) + left * rest / count}});
    }
  }

  Point from(std::size_t s, std::size_t first, float threshold) const {
    double cost = prices_.begin(first);
    for (std::size_t k = first; k < last_; ++k) {
      if (sure(s, k, threshold)) return answer(s, k, cost);
      cost += prices_.run(k, k + 1);
    }
    return {0.0, cost};
  }

  Point two(std::size_t s, std::size_t k, std::size_t m, float a, float b, bool send) const {
    double cost = prices_.begin(k);
    if (sure(s, k, a)) return answer(s, k, cost);
    cost += prices_.run(k, m);
    if (sure(s, m, b)) return answer(s, m, cost);
    return {0.0, cost + (send ? prices_.offload : prices_.run(m, last_))};
  }

  // Every pair of thresholds from one table of counts.
  void add_two_looks(Family& family, std::size_t k, std::size_t m, bool send) const {
    const std::size_t rows = grid_[k].size(), columns = grid_[m].size() + 1;
    std::vector<double> number((rows + 1) * columns), wrong((rows + 1) * columns),
        wrong_first(rows + 1), first(rows + 1);
    for (const std::uint32_t s : tune_) {
      const std::size_t i = bin(k, s), at = i * columns + bin(m, s);
      number[at] += 1.0;
      wrong[at] += stream_.differs(s, m) ? 1.0 : 0.0;
      first[i] += 1.0;
      wrong_first[i] += stream_.differs(s, k) ? 1.0 : 0.0;
    }
    const auto count = static_cast<double>(tune_.size());
    const double rest_cost = send ? prices_.offload : prices_.run(m, last_);
    std::vector<double> arrived(columns), arrived_wrong(columns);
    std::vector<Point> points;
    double answered_wrong = 0.0, unsure = 0.0;
    for (const double value : wrong_first) answered_wrong += value;
    for (std::size_t i = 0; i < rows; ++i) {
      double all_wrong = 0.0, rest = 0.0, rest_wrong = 0.0;
      for (std::size_t j = 0; j < columns; ++j) {
        arrived[j] += number[i * columns + j];
        arrived_wrong[j] += wrong[i * columns + j];
        all_wrong += arrived_wrong[j];
      }
      answered_wrong -= wrong_first[i];
      unsure += first[i];
      for (std::size_t j = 0; j + 1 < columns; ++j) {
        rest += arrived[j];
        rest_wrong += arrived_wrong[j];
        points.push_back(
            {(answered_wrong + all_wrong - rest_wrong) / count,
             prices_.begin(k) + (unsure * prices_.run(k, m) + rest * rest_cost) / count});
      }
    }
    for (const std::size_t at : hull_members(points)) {
      const float a = grid_[k][at / (columns - 1)], b = grid_[m][at % (columns - 1)];
      family.push_back(
          {[this, k, m, a, b, send](std::size_t s) { return two(s, k, m, a, b, send); },
           points[at]});
    }
  }
  // Number of the exit's thresholds at which the sample is sure.
  std::size_t bin(std::size_t exit, std::size_t s) const { return bins_[s * last_ + exit]; }

  static std::uint8_t below(const std::vector<float>& thresholds, float confidence) {
    return static_cast<std::uint8_t>(std::ranges::upper_bound(thresholds, confidence) -
                                     thresholds.begin());
  }

  void make_grids() {
    std::vector<float> all;
    for (std::size_t k = 0; k < last_; ++k) {
      std::vector<float> values;
      for (const std::uint32_t s : tune_) values.push_back(stream_.at(s)[k]);
      std::ranges::sort(values);
      std::vector<float> grid;
      for (std::size_t i = 0; i < kQuantiles; ++i) {
        grid.push_back(values[i * (values.size() - 1) / kQuantiles]);
      }
      grid.push_back(policy::kNeverAnswers);
      grid.erase(std::unique(grid.begin(), grid.end()), grid.end());
      all.insert(all.end(), grid.begin(), grid.end());
      grid_.push_back(std::move(grid));
    }
    std::ranges::sort(all);
    for (std::size_t i = 0; i < kCommon; ++i) {
      common_.push_back(all[i * (all.size() - 1) / (kCommon - 1)]);
    }
    common_.erase(std::unique(common_.begin(), common_.end()), common_.end());
    bins_.resize(stream_.samples() * last_);
    places_.resize(stream_.samples() * last_);
    for (const std::uint32_t s : tune_) {
      for (std::size_t k = 0; k < last_; ++k) {
        bins_[s * last_ + k] = below(grid_[k], stream_.at(s)[k]);
        places_[s * last_ + k] = below(common_, stream_.at(s)[k]);
      }
    }
  }

  const Stream& stream_;
  Prices prices_;
  Samples tune_;
  std::size_t last_;
  std::vector<std::vector<float>> grid_;  // per exit, ascending
  std::vector<float> common_;
  std::vector<std::uint8_t> bins_, places_;  // (samples, exits): thresholds at which it is sure
};

std::vector<Point> scored(const Tuner::Family& family, Samples samples) {
  std::vector<Point> points;
  for (const Candidate& candidate : family) {
    Point sum;
    for (const std::uint32_t s : samples) {
      const Point one = candidate.walk(s);
      sum.disagreement += one.disagreement;
      sum.cost += one.cost;
    }
    const auto count = static_cast<double>(samples.size());
    points.push_back({sum.disagreement / count, sum.cost / count});
  }
  return points;
}

}  // namespace

Hull::Hull(std::vector<Point> points) {
  for (const std::size_t i : hull_members(points)) points_.push_back(points[i]);
}

double Hull::cost(double disagreement) const {
  if (disagreement <= points_.front().disagreement) return points_.front().cost;
  for (std::size_t i = 1; i < points_.size(); ++i) {
    const Point &a = points_[i - 1], &b = points_[i];
    if (disagreement > b.disagreement) continue;
    const double part = (disagreement - a.disagreement) / (b.disagreement - a.disagreement);
    return a.cost + part * (b.cost - a.cost);
  }
  return points_.back().cost;
}

double Hull::slope(double disagreement) const {
  for (std::size_t i = 1; i < points_.size(); ++i) {
    const Point &a = points_[i - 1], &b = points_[i];
    if (disagreement <= b.disagreement) {
      return (a.cost - b.cost) / (b.disagreement - a.disagreement);
    }
  }
  return 0.0;
}

double Hull::support(double beta) const {
  double least = points_.front().cost + beta * points_.front().disagreement;
  for (const Point& p : points_) least = std::min(least, p.cost + beta * p.disagreement);
  return least;
}

policy::AuditRows audited(const Stream& stream, Samples samples) {
  policy::AuditRows rows(stream.exits);
  std::vector<float> row(stream.exits);
  const std::size_t count = std::min(samples.size(), policy::AuditRows::kCapacity);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t s = samples[i * samples.size() / count];
    for (std::size_t k = 0; k < stream.exits; ++k) {
      row[k] = stream.differs(s, k) ? -stream.at(s)[k] : stream.at(s)[k];
    }
    rows.add(row, 0, 1.0f);
  }
  return rows;
}

Stream stream_of(const policy::Trace& trace) {
  Stream stream{.exits = trace.exits, .confidence = {}, .answer = {}};
  for (const double value : trace.confidence) {
    stream.confidence.push_back(static_cast<float>(value));
  }
  stream.answer.assign(trace.prediction.begin(), trace.prediction.end());
  return stream;
}

Ruled rule(const Stream& stream, const Prices& prices, Samples tune, Samples score) {
  const Tuner tuner(stream, prices, tune);
  const Tuner::Family simple = tuner.simple(), from = tuner.threshold_from(0, stream.exits - 2),
                      one = tuner.threshold_from(0, 0);
  Tuner::Family all = simple;
  const auto join = [&all](const Tuner::Family& more) {
    all.insert(all.end(), more.begin(), more.end());
  };
  join(from);
  join(tuner.one_look(false));
  join(tuner.two_looks(false));
  join(tuner.patience());
  join(tuner.stopping());
  if (prices.link()) {
    join(tuner.one_look(true));
    join(tuner.two_looks(true));
    join(tuner.cascades_that_send());
  }
  const Point full{0.0, prices.begin(stream.exits - 1)};
  const auto with_full = [&](const Tuner::Family& family) {
    std::vector<Point> points = scored(family, score);
    points.push_back(full);
    return Hull(std::move(points));
  };
  return {Hull(scored(tuner.kept(std::move(all)), score)), with_full(from), with_full(one)};
}

}  // namespace splitee::bench
