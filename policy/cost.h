// Cost and reward of one sample (SplitEE, arXiv 2309.09195, section 3).
// gamma = lambda1 * layers + lambda2 * exits evaluated; an offload adds o.
// reward = confidence of the answer - mu * cost.
// Unit: whatever lambda is given in; records and reports divide by lambda = lambda1 + lambda2.
// With lambda2 = 0 a plain "cost of a layer" is meant, and gamma = lambda * layers in every policy.
// The costs of the four routes are those of episode.h, which alone turns a route into a cost.
// Thread rule: plain values.
#pragma once

#include <cstddef>
#include <vector>

namespace splitee::policy {

struct CostModel {
  double lambda1 = 0.1;  // one layer
  double lambda2 = 0.0;  // one exit head
  double offload = 0.5;  // o
  double mu = 1.0;
  // Share of lambda1 that the last layer run does not take, where less than the layer was computed.
  double last_layer_spared = 0.0;
  // o by the layer sent from, [0] for the input sent at once, where that is known; else empty.
  std::vector<double> offload_by_layer{};
  // What one lambda is in the unit of a budget (PolicyOptions::budget): milliseconds, say.
  double budget_unit = 1.0;

  double lambda() const { return lambda1 + lambda2; }
  double cost(std::size_t layers, std::size_t exits, bool offloaded) const {
    const double spared = layers > 0 ? last_layer_spared : 0.0;
    return lambda1 * (static_cast<double>(layers) - spared) + lambda2 * static_cast<double>(exits) +
           (offloaded ? offload : 0.0);
  }
  double offload_from(std::size_t layer) const {
    return layer < offload_by_layer.size() ? offload_by_layer[layer] : offload;
  }
  double reward(double confidence, double cost) const { return confidence - mu * cost; }
};

}  // namespace splitee::policy
