#include "policy/learners/chain_planner.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace splitee::policy {
namespace {

constexpr std::size_t kCapacity = AuditRows::kCapacity;
constexpr int kRefinements = 2;

// Sixteen bytes are a register wherever this is built.
using Floats = float __attribute__((vector_size(16)));
using Places = std::int32_t __attribute__((vector_size(16)));
constexpr std::size_t kFloats = sizeof(Floats) / sizeof(float), kWide = 4 * kFloats;
constexpr std::size_t kStretch = 32;  // rows

Floats load(const float* from) {
  Floats values;
  std::memcpy(&values, from, sizeof values);
  return values;
}

bool counts(std::span<const std::uint8_t> only, std::size_t row) {
  return only.empty() || only[row] != 0;
}

}  // namespace

// Of kFloats options what answering costs more than each, summed down the rows by confidence; the
// least sum, relative to nobody's being answered here, and the stretch of rows before one of which
// it stands. A threshold parts no rows of one confidence, so that only sums between two count.
struct ChainPlanner::Sum {
  Floats total{}, best{}, before{}, best_before{}, total_before{};
  Places stretch = Places{} - 1;

  void add(Floats more) { total += more; }
  void compare() { best = total < best ? total : best; }
  void begin_stretch() {
    before = total;
    best_before = best;
  }
  void end_stretch(std::size_t row) {
    const Places better = best < best_before;
    stretch = better ? Places{} + static_cast<std::int32_t>(row) : stretch;
    total_before = better ? before : total_before;
  }
};

void ChainPlanner::store(const Sum& sum, std::size_t from) {
  std::memcpy(&total_[from], &sum.total, sizeof sum.total);
  std::memcpy(&best_[from], &sum.best, sizeof sum.best);
  std::memcpy(&total_before_[from], &sum.total_before, sizeof sum.total_before);
  std::memcpy(&stretch_[from], &sum.stretch, sizeof sum.stretch);
}

ChainPlanner::ChainPlanner(std::vector<std::size_t> layer_of)
    : exits_(layer_of.size()),
      layer_of_(std::move(layer_of)),
      send_(exits_),
      stride_((exits_ + kWide) / kWide * kWide),
      loss_(exits_ * kCapacity),
      values_(kCapacity * stride_),
      arrivals_(kCapacity),
      total_(stride_),
      best_(stride_),
      step_(stride_),
      total_before_(stride_),
      stretch_(stride_),
      path_(exits_),
      best_mean_(exits_) {}

void ChainPlanner::set_prices(const CostModel& costs, bool link) {
  const double unit = 1.0 / costs.lambda();
  layer_ = costs.lambda1 * unit;
  head_ = costs.lambda2 * unit;
  spared_ = costs.last_layer_spared * layer_;
  link_ = link;
  send_at_once_ = costs.offload_from(0) * unit;
  for (std::size_t exit = 0; exit < exits_; ++exit) {
    send_[exit] = static_cast<float>(costs.offload_from(layer_of_[exit]) * unit);
  }
}

double ChainPlanner::run(std::size_t from, std::size_t to) const {
  return layer_ * static_cast<double>(layer_of_[to] - layer_of_[from]) + head_;
}
double ChainPlanner::begin(std::size_t exit) const {
  return layer_ * static_cast<double>(layer_of_[exit]) - spared_ + head_;
}
double ChainPlanner::audit_from(std::size_t exit) const {
  return layer_ * static_cast<double>(layer_of_.back() - layer_of_[exit]) +
         head_ * static_cast<double>(exits_ - 1 - exit);
}

void ChainPlanner::set_disagreement(const AuditRows& rows, const DisagreementModel& model) {
  for (std::size_t exit = 0; exit + 1 < exits_; ++exit) {
    const std::span<const float> differs = rows.differs(exit), modelled = model.of_rows(exit);
    float* const loss = &loss_[exit * kCapacity];
    for (std::size_t row = 0; row < rows.size(); ++row) {
      loss[row] = 0.5f * (differs[row] + modelled[row]);
    }
  }
  std::fill_n(&loss_[(exits_ - 1) * kCapacity], rows.size(), 0.0f);
}

void ChainPlanner::set_confidence(const AuditRows& rows) {
  for (std::size_t exit = 0; exit < exits_; ++exit) {
    const std::span<const float> confidence = rows.confidence(exit);
    for (std::size_t row = 0; row < rows.size(); ++row) {
      loss_[exit * kCapacity + row] = 1.0f - confidence[row];
    }
  }
}

Chain ChainPlanner::deepest() const {
  return {.at_once = false, .first = exits_ - 1, .looks = std::vector<Look>(exits_)};
}

void ChainPlanner::set_values(const AuditRows& rows, std::size_t exit, float beta,
                              const Look& look) {
  const std::span<const float> confidence = rows.confidence(exit);
  const float* const loss = &loss_[exit * kCapacity];
  const std::size_t next = look.next == kSendNext ? exits_ : look.next;
  const float step = next == exits_ ? send_[exit] : static_cast<float>(run(exit, next));
  for (std::size_t row = 0; row < rows.size(); ++row) {
    float* const values = &values_[row * stride_];
    const float on = step + values[next];
    values[exit] = confidence[row] >= look.threshold ? beta * loss[row] : on;
  }
}

// kWide options from `from` on.
void ChainPlanner::sum_options(const AuditRows& rows, std::size_t exit, float beta,
                               std::span<const std::uint8_t> only, std::size_t from) {
  const std::span<const std::uint16_t> order = rows.order(exit);
  const float* const weight = rows.weight().data();
  const float* const loss = &loss_[exit * kCapacity];
  const float* const values = &values_[from];
  const std::size_t stride = stride_, count = order.size();
  const float* const step = &step_[from];
  const Floats step0 = load(step), step1 = load(step + kFloats), step2 = load(step + 2 * kFloats),
               step3 = load(step + 3 * kFloats);
  const float* const confidence = rows.confidence(exit).data();
  float previous = kNeverAnswers;
  Sum sum0, sum1, sum2, sum3;
  const auto compare = [&] {
    for (Sum* sum : {&sum0, &sum1, &sum2, &sum3}) sum->compare();
  };
  for (std::size_t start = 0; start < count; start += kStretch) {
    for (Sum* sum : {&sum0, &sum1, &sum2, &sum3}) sum->begin_stretch();
    for (std::size_t i = start; i < std::min(start + kStretch, count); ++i) {
      const std::size_t row = order[i];
      if (!counts(only, row)) continue;
      if (confidence[row] != previous) compare();
      previous = confidence[row];
      const float w = weight[row], answered = beta * loss[row];
      const float* const own = values + row * stride;
      sum0.add(w * (answered - step0 - load(own)));
      sum1.add(w * (answered - step1 - load(own + kFloats)));
      sum2.add(w * (answered - step2 - load(own + 2 * kFloats)));
      sum3.add(w * (answered - step3 - load(own + 3 * kFloats)));
    }
    if (start + kStretch >= count) compare();
    for (Sum* sum : {&sum0, &sum1, &sum2, &sum3}) sum->end_stretch(start);
  }
  store(sum0, from);
  store(sum1, from + kFloats);
  store(sum2, from + 2 * kFloats);
  store(sum3, from + 3 * kFloats);
}

// The first of the rows that count, by confidence, that is not answered where an option's sum is
// least; as many as there are, if all are.
std::size_t ChainPlanner::first_unanswered(const AuditRows& rows, std::size_t exit, float beta,
                                           std::span<const std::uint8_t> only,
                                           std::size_t option) const {
  const std::span<const std::uint16_t> order = rows.order(exit);
  const std::span<const float> confidence = rows.confidence(exit);
  auto i = static_cast<std::size_t>(stretch_[option]);
  float total = total_before_[option];
  float previous = least_answered(rows, exit, only, i);
  for (; i < order.size(); ++i) {
    const std::size_t row = order[i];
    if (!counts(only, row)) continue;
    if (total == best_[option] && confidence[row] != previous) return i;
    previous = confidence[row];
    const float answered = beta * loss_[exit * kCapacity + row];
    total += rows.weight()[row] * (answered - step_[option] - values_[row * stride_ + option]);
  }
  return i;
}

// Confidence of the last row that counts before one.
float ChainPlanner::least_answered(const AuditRows& rows, std::size_t exit,
                                   std::span<const std::uint8_t> only, std::size_t before) {
  const std::span<const std::uint16_t> order = rows.order(exit);
  while (before > 0 && !counts(only, order[before - 1])) --before;
  return before > 0 ? rows.confidence(exit)[order[before - 1]] : kNeverAnswers;
}

// The best threshold and next step of one exit, given those of the exits after it.
void ChainPlanner::improve(const AuditRows& rows, std::size_t exit, float beta,
                           std::span<const std::uint8_t> only, Look& look) {
  const std::span<const std::uint16_t> order = rows.order(exit);
  const std::span<const float> confidence = rows.confidence(exit);
  // Options: the exits after this one, then sending.
  const std::size_t end = exits_ + (link_ ? 1 : 0);
  for (std::size_t next = exit + 1; next < exits_; ++next) {
    step_[next] = static_cast<float>(run(exit, next));
  }
  step_[exits_] = send_[exit];
  for (std::size_t from = (exit + 1) / kWide * kWide; from < end; from += kWide) {
    sum_options(rows, exit, beta, only, from);
  }
  // By now total_ is what answering all rows here costs more than going on, so that going on costs
  // -total_ and a sum that is the same for all options.
  std::size_t chosen = exit + 1;
  for (std::size_t next = exit + 2; next < end; ++next) {
    if (best_[next] - total_[next] < best_[chosen] - total_[chosen]) chosen = next;
  }
  look.next = chosen == exits_ ? kSendNext : static_cast<std::uint16_t>(chosen);
  look.threshold = kNeverAnswers;
  if (stretch_[chosen] >= 0) {
    const std::size_t i = first_unanswered(rows, exit, beta, only, chosen);
    const float least = least_answered(rows, exit, only, i);
    const float below = i < order.size() ? confidence[order[i]] : 0.0f;
    const float between = 0.5f * (least + below);
    look.threshold = i == order.size() ? 0.0f : between > below ? between : least;
  }
  set_values(rows, exit, beta, look);
}

void ChainPlanner::pick_first(const AuditRows& rows, std::span<const std::uint8_t> only,
                              double beta, Chain& chain) const {
  const std::span<const float> weight = rows.weight();
  const float* const last = &loss_[(exits_ - 1) * kCapacity];
  for (std::size_t exit = 0; exit < exits_; ++exit) best_mean_[exit] = 0.0;
  double sum = 0.0, answer = 0.0;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (!counts(only, row)) continue;
    const auto w = static_cast<double>(weight[row]);
    sum += w;
    answer += w * static_cast<double>(last[row]);
    const float* const values = &values_[row * stride_];
    for (std::size_t exit = 0; exit < exits_; ++exit) {
      best_mean_[exit] += w * static_cast<double>(values[exit]);
    }
  }
  chain.first = exits_ - 1;
  double best = best_mean_[chain.first] / sum + begin(chain.first);
  for (std::size_t exit = 0; exit + 1 < exits_; ++exit) {
    const double mean = best_mean_[exit] / sum + begin(exit);
    if (mean < best) {
      best = mean;
      chain.first = exit;
    }
  }
  chain.at_once = link_ && send_at_once_ + beta * answer / sum <= best;
}

void ChainPlanner::find_arrivals(const AuditRows& rows, const Chain& chain, std::size_t exit,
                                 std::span<const std::uint8_t> only) {
  for (std::size_t row = 0; row < rows.size(); ++row) arrivals_[row] = counts(only, row) ? 1 : 0;
  for (std::size_t look = chain.first; look < exit; look = chain.looks[look].next) {
    const std::span<const float> confidence = rows.confidence(look);
    const float threshold = chain.looks[look].threshold;
    for (std::size_t row = 0; row < rows.size(); ++row) {
      arrivals_[row] = confidence[row] < threshold ? arrivals_[row] : 0;
    }
  }
}

void ChainPlanner::refine(const AuditRows& rows, double beta, std::span<const std::uint8_t> only,
                          Chain& chain) {
  const std::size_t last = exits_ - 1;
  // From the deepest look of the chain to the first.
  std::size_t count = 0;
  for (std::size_t exit = chain.first; exit < last;) {
    path_[count++] = exit;
    const std::uint16_t next = chain.looks[exit].next;
    exit = next == kSendNext ? last : next;
  }
  const std::size_t rows_count = rows.size();
  while (count > 0) {
    const std::size_t exit = path_[--count];
    find_arrivals(rows, chain, exit, only);
    improve(rows, exit, static_cast<float>(beta), {arrivals_.data(), rows_count},
            chain.looks[exit]);
  }
}

void ChainPlanner::propose(const AuditRows& rows, double beta, std::span<const std::uint8_t> only,
                           Chain& chain) {
  const std::size_t last = exits_ - 1;
  const float* const loss = &loss_[last * kCapacity];
  for (std::size_t row = 0; row < rows.size(); ++row) {
    float* const values = &values_[row * stride_];
    values[last] = values[exits_] = static_cast<float>(beta) * loss[row];
  }
  for (std::size_t exit = last; exit-- > 0;) {
    improve(rows, exit, static_cast<float>(beta), only, chain.looks[exit]);
  }
  pick_first(rows, only, beta, chain);
  for (int i = 0; i < kRefinements && !chain.at_once && chain.first < last; ++i) {
    refine(rows, beta, only, chain);
  }
  pick_first(rows, only, beta, chain);
}

std::size_t ChainPlanner::answers_at(const AuditRows& rows, const Chain& chain,
                                     std::size_t row) const {
  const std::size_t last = exits_ - 1;
  if (chain.at_once) return last;
  for (std::size_t exit = chain.first; exit < last;) {
    const Look& look = chain.looks[exit];
    if (rows.confidence(exit)[row] >= look.threshold) return exit;
    exit = look.next == kSendNext ? last : look.next;
  }
  return last;
}

ChainScore ChainPlanner::score(const AuditRows& rows, const DisagreementModel* model,
                               const Chain& chain, std::span<const std::uint8_t> without) const {
  const std::size_t last = exits_ - 1;
  const std::span<const float> weight = rows.weight();
  ChainScore sum;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (!without.empty() && without[row] != 0) continue;
    const auto w = static_cast<double>(weight[row]);
    sum.weight += w;
    if (chain.at_once) {
      sum.cost += w * send_at_once_;
      continue;
    }
    sum.cost += w * begin(chain.first);
    for (std::size_t exit = chain.first; exit < last;) {
      const Look& look = chain.looks[exit];
      if (rows.confidence(exit)[row] >= look.threshold) {
        auto differs = static_cast<double>(rows.differs(exit)[row]);
        if (model != nullptr) {
          differs = 0.5 * (differs + static_cast<double>(model->of_rows(exit)[row]));
        }
        sum.differing += w * differs;
        sum.scatter += w * w * differs;
        break;
      }
      const bool sends = look.next == kSendNext;
      sum.cost += w * (sends ? static_cast<double>(send_[exit]) : run(exit, look.next));
      exit = sends ? last : look.next;
    }
  }
  return sum;
}

}  // namespace splitee::policy
