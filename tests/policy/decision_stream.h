// Random networks, costs and streams for decision_fuzz.cc, extremes among them.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/rng.h"
#include "policy/episode.h"

namespace splitee::policy::fuzzed {

inline double any_of(Rng& rng, const std::vector<double>& values) {
  return values[rng.below(static_cast<std::uint32_t>(values.size()))];
}
inline bool one_in(Rng& rng, std::uint32_t many) {
  return rng.below(many) == 0;
}

// Costs of one kind: of the paper, zeros, measured per layer, or beyond any use.
inline CostModel any_costs(Rng& rng, std::size_t layers) {
  CostModel costs;
  const std::uint32_t kind = rng.below(8);
  const double most = kind == 7 ? 1e30 : 1.0;
  costs.lambda1 = kind == 1 ? 0.0 : most * any_of(rng, {0.05, 0.1, 0.8, rng.uniform()});
  costs.lambda2 = kind == 2 ? 0.0 : most * any_of(rng, {0.02, 0.2, rng.uniform(), 0.0});
  if (!(costs.lambda() > 0.0)) costs.lambda1 = 0.1;
  costs.offload = any_of(rng, {0.0, 0.1, 0.5, 5.0, rng.uniform(), kind == 7 ? 1e30 : 2.0});
  costs.mu = kind == 3 ? 0.0 : any_of(rng, {1.0, 1.0, 0.1, 10.0, kind == 7 ? 1e30 : 1.0});
  costs.last_layer_spared = any_of(rng, {0.0, 0.0, 1.0, rng.uniform()});
  if (one_in(rng, 4)) {
    costs.offload_by_layer.resize(1 + rng.below(static_cast<std::uint32_t>(layers + 1)));
    for (double& cost : costs.offload_by_layer) cost = any_of(rng, {0.0, 3.0, 2 * rng.uniform()});
  }
  return costs;
}

inline PolicyOptions any_options(Rng& rng, std::size_t most_arms) {
  PolicyOptions options;
  const std::size_t arms = 1 + rng.below(static_cast<std::uint32_t>(most_arms));
  std::size_t layer = 0;
  for (std::size_t arm = 0; arm < arms; ++arm) {
    layer += 1 + (one_in(rng, 3) ? rng.below(4) : 0);
    options.layer_of.push_back(layer);
  }
  const auto some_arm = [&] { return rng.below(static_cast<std::uint32_t>(arms)); };
  options.alpha = any_of(rng, {0.0, 0.5, 0.7, 0.8, 0.9, 1.0, rng.uniform()});
  if (one_in(rng, 3)) {
    for (std::size_t arm = 0; arm < arms; ++arm) {
      options.exit_alphas.push_back(any_of(rng, {0.5, 0.7, 1.0, 1e-3, 1.0 - rng.uniform()}));
    }
  }
  options.fixed_arm = some_arm();
  options.first_exit = 1 + some_arm();
  options.exploration = any_of(rng, {1.0, 1.0, 0.0, 0.3, 100.0});
  if (one_in(rng, 2)) options.entropy_threshold = any_of(rng, {0.0, 1.0, rng.uniform()});
  options.at_once_arm = one_in(rng, 2);
  options.patience = 1 + rng.below(4);
  options.discount = any_of(rng, {1.0, 0.999, 0.9, 0.01});
  options.window = 1 + rng.below(one_in(rng, 2) ? 4 : 80);
  options.change_threshold = any_of(rng, {0.0, 0.5, 2.0, 5.0});
  options.seed = rng.next();
  options.costs = any_costs(rng, layer);
  return options;
}

// What a network and a server say of one sample.
struct Sample {
  LinkState link = LinkState::kUp;
  std::vector<float> confidence;        // per exit; NaN: what is no probability
  std::vector<std::size_t> prediction;  // per exit
  std::optional<ServerReply> reply;     // none: lost
};

// How a stream's samples are drawn.
class Stream {
 public:
  Stream(Rng& rng, const PolicyOptions& options)
      : rng_(rng),
        exits_(options.arms()),
        alpha_(static_cast<float>(options.alpha)),
        classes_(2 + (one_in(rng, 3) ? rng.below(20) : 0)),
        kind_(rng.below(6)),
        links_(rng.below(4)),
        with_probabilities_(one_in(rng, 2)),
        broken_(one_in(rng, 4)),
        lossy_(one_in(rng, 2)) {}

  std::size_t classes() const { return classes_; }
  // Else only the confidence is told, as by a trace.
  bool with_probabilities() const { return with_probabilities_; }

  Sample next() {
    if (!last_.confidence.empty() && (kind_ == 4 || one_in(rng_, 6))) {
      if (!one_in(rng_, 10)) return last_;
    }
    Sample sample;
    sample.link = any_link();
    for (std::size_t exit = 0; exit < exits_; ++exit) {
      sample.confidence.push_back(confidence(exit));
      sample.prediction.push_back(rng_.below(one_in(rng_, 3) ? classes_ : 1));
    }
    sample.reply = ServerReply(sample.confidence.back(), 0);
    if (one_in(rng_, 4)) sample.reply = ServerReply(static_cast<float>(rng_.uniform()), 1);
    if (broken_ && one_in(rng_, 20)) sample.reply = ServerReply(broken_reply(), 0);
    if (lossy_ && one_in(rng_, 4)) sample.reply.reset();
    return last_ = sample;
  }

 private:
  LinkState any_link() {
    constexpr LinkState kLinks[] = {LinkState::kUp, LinkState::kNone, LinkState::kDown};
    return links_ == 0 ? kLinks[rng_.below(3)] : links_ == 1 ? LinkState::kNone : LinkState::kUp;
  }
  float broken_reply() {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const float values[] = {std::nanf(""), 1.5f, -0.5f, kInfinity};
    return values[rng_.below(4)];
  }
  float confidence(std::size_t exit) {
    const float least = 1.0f / static_cast<float>(classes_);
    if (broken_ && one_in(rng_, 60)) return std::nanf("");
    const double depth = static_cast<double>(exit + 1) / static_cast<double>(exits_);
    double value = 0;
    switch (kind_) {
      case 0:  // extremes, and what lies at the threshold
        return std::max(with_probabilities_ ? least : 0.0f, extreme());
      case 1:
        value = 0.6 + 0.4 * depth * rng_.uniform();
        break;
      case 2:  // all alike
        value = 0.75;
        break;
      default:
        value = 1.0 - (1.0 - depth * 0.7) * rng_.uniform();
    }
    return std::clamp(static_cast<float>(value), least, 1.0f);
  }
  float extreme() {
    const float values[] = {0.0f,
                            1.0f,
                            alpha_,
                            std::nextafter(alpha_, 0.0f),
                            std::min(1.0f, std::nextafter(alpha_, 2.0f)),
                            1.0f / static_cast<float>(classes_)};
    // A trace may say 0 of any number of classes; max() lifts it where there are probabilities.
    return values[rng_.below(6)];
  }

  Rng& rng_;
  std::size_t exits_;
  float alpha_;
  std::uint32_t classes_, kind_, links_;
  bool with_probabilities_, broken_, lossy_;
  Sample last_;
};

// What audits saw of a sample.
struct Row {
  std::vector<float> seen;  // negative where it differs
  std::size_t from = 0;
  float weight = 1;
};

inline Row any_row(Rng& rng, std::size_t exits, bool partial) {
  Row drawn{std::vector<float>(exits)};
  for (std::size_t exit = 0; exit < exits; ++exit) {
    const double depth = static_cast<double>(exit + 1) / static_cast<double>(exits);
    const double doubt = (1.05 - depth) * rng.uniform();
    const double step = any_of(rng, {1e-3, 1.0 / 64, 1e-6});
    const auto confidence = static_cast<float>(std::round((1 - doubt) / step) * step);
    drawn.seen[exit] = std::clamp(confidence, 0.01f, 1.0f);
    if (exit + 1 < exits && rng.uniform() < doubt) drawn.seen[exit] *= -1;
  }
  if (partial && one_in(rng, 3)) drawn.from = rng.below(static_cast<std::uint32_t>(exits));
  drawn.weight = static_cast<float>(any_of(rng, {1.0, 0.2, 32.0, 0.2 + rng.uniform()}));
  return drawn;
}

}  // namespace splitee::policy::fuzzed
