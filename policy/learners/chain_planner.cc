#include "policy/learners/chain_planner.h"

#include <algorithm>
#include <utility>

namespace splitee::policy {
namespace {

constexpr std::size_t kCapacity = AuditRows::kCapacity;
constexpr int kRefinements = 2;

bool counts(std::span<const std::uint8_t> only, std::size_t row) {
  return only.empty() || only[row] != 0;
}

}  // namespace

ChainPlanner::ChainPlanner(std::vector<std::size_t> layer_of)
    : exits_(layer_of.size()),
      layer_of_(std::move(layer_of)),
      send_(exits_),
      stride_((exits_ + 4) / 4 * 4),
      loss_(exits_ * kCapacity),
      values_(kCapacity * stride_),
      arrivals_(kCapacity),
      total_(exits_ + 1),
      best_(exits_ + 1),
      step_(exits_ + 1),
      best_at_(exits_ + 1),
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
  const float* const last = &loss_[(exits_ - 1) * kCapacity];
  const bool sends = look.next == kSendNext;
  const float step = sends ? send_[exit] : static_cast<float>(run(exit, look.next));
  for (std::size_t row = 0; row < rows.size(); ++row) {
    float* const values = &values_[row * stride_];
    const float on = step + (sends ? beta * last[row] : values[look.next]);
    values[exit] = confidence[row] >= look.threshold ? beta * loss[row] : on;
  }
}

// The best threshold and next step of one exit, given those of the exits after it.
void ChainPlanner::improve(const AuditRows& rows, std::size_t exit, float beta,
                           std::span<const std::uint8_t> only, Look& look) {
  const std::span<const std::uint16_t> order = rows.order(exit);
  const std::span<const float> confidence = rows.confidence(exit), weight = rows.weight();
  const float* const loss = &loss_[exit * kCapacity];
  const float* const last = &loss_[(exits_ - 1) * kCapacity];
  // Options: the exits after this one, then sending.
  const std::size_t ahead = exits_ - 1 - exit, options = ahead + (link_ ? 1 : 0);
  for (std::size_t j = 0; j < ahead; ++j) step_[j] = static_cast<float>(run(exit, exit + 1 + j));
  float* const total = total_.data();
  float* const best = best_.data();
  int* const best_at = best_at_.data();
  const float* const step = step_.data();
  std::fill_n(total, options, 0.0f);
  const auto add = [&](std::size_t row, float answered) {
    const float* const values = &values_[row * stride_ + exit + 1];
    const float w = weight[row];
    for (std::size_t j = 0; j < ahead; ++j) total[j] += w * (answered - step[j] - values[j]);
    if (link_) total[ahead] += w * (answered - send_[exit] - beta * last[row]);
  };
  // Relative to nobody's being answered here.
  for (std::size_t j = 0; j < options; ++j) {
    best[j] = 0.0f;
    best_at[j] = -1;
  }
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::size_t row = order[i];
    if (!counts(only, row)) continue;
    add(row, beta * loss[row]);
    for (std::size_t j = 0; j < options; ++j) {
      const bool better = total[j] < best[j];
      best[j] = better ? total[j] : best[j];
      best_at[j] = better ? static_cast<int>(i) : best_at[j];
    }
  }
  // By now `total` is what answering all rows here costs more than going on, so that going on costs
  // -total and a sum that is the same for all options.
  std::size_t chosen = 0;
  for (std::size_t j = 1; j < options; ++j) {
    if (best[j] - total[j] < best[chosen] - total[chosen]) chosen = j;
  }
  look.next = chosen == ahead ? kSendNext : static_cast<std::uint16_t>(exit + 1 + chosen);
  look.threshold = kNeverAnswers;
  if (best_at[chosen] >= 0) {
    auto i = static_cast<std::size_t>(best_at[chosen]);
    const float least = confidence[order[i]];
    for (++i; i < order.size() && !counts(only, order[i]);) ++i;
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
    values_[row * stride_ + last] = static_cast<float>(beta) * loss[row];
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

ChainScore ChainPlanner::score(const AuditRows& rows, const DisagreementModel& model,
                               const Chain& chain, double share_of_model,
                               std::span<const std::uint8_t> without) const {
  const std::size_t last = exits_ - 1;
  const std::span<const float> weight = rows.weight();
  double sum = 0.0, differing = 0.0, scatter = 0.0, cost = 0.0;
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (!without.empty() && without[row] != 0) continue;
    const auto w = static_cast<double>(weight[row]);
    sum += w;
    if (chain.at_once) {
      cost += w * send_at_once_;
      continue;
    }
    cost += w * begin(chain.first);
    for (std::size_t exit = chain.first; exit < last;) {
      const Look& look = chain.looks[exit];
      if (rows.confidence(exit)[row] >= look.threshold) {
        const auto counted = static_cast<double>(rows.differs(exit)[row]);
        const auto modelled = static_cast<double>(model.of_rows(exit)[row]);
        differing += w * (counted + share_of_model * (modelled - counted));
        scatter += w * w * 0.5 * (counted + modelled);
        break;
      }
      const bool sends = look.next == kSendNext;
      cost += w * (sends ? static_cast<double>(send_[exit]) : run(exit, look.next));
      exit = sends ? last : look.next;
    }
  }
  if (!(sum > 0.0)) return {full_cost(), 1.0, 1.0};
  // One row more that differs: little evidence never looks like certainty.
  return {cost / sum, differing / sum, (scatter + 1.0) / (sum * sum)};
}

}  // namespace splitee::policy
