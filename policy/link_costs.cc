#include "policy/link_costs.h"

#include <algorithm>

#include "runtime/status.h"

namespace splitee::policy {

void LinkCosts::add_offload(std::int64_t sent_us, std::int64_t link_us, std::uint64_t bytes,
                            std::size_t layers, double server_us) {
  link_.add(sent_us, link_us, bytes);
  // One slow answer must not count for many: at most four times what was expected.
  const auto count = static_cast<double>(layers);
  if (server_layer_.known()) {
    server_us = std::min(server_us, 4.0 * count * std::max(1.0, server_layer_.value()));
  }
  if (layers > 0) server_layer_.add(count, server_us);
}

double LinkCosts::rest_us() const {
  if (rest_.known() || !layer_.known()) return rest_.value();
  return std::max(0.0, layer_.value() - exit_.value());
}

void LinkCosts::price(std::span<const double> offload_us, double weight, CostModel& costs) const {
  SPLITEE_CHECK(known() && !offload_us.empty());
  const double lambda = costs.lambda();
  const double unit = unit_us();
  const double layer_us = layer_.known() ? std::min(layer_.value(), unit) : unit;
  costs.lambda1 = lambda * layer_us / unit;
  costs.lambda2 = lambda - costs.lambda1;
  costs.last_layer_spared = std::min(1.0, rest_us() / layer_us);
  costs.offload_by_layer.resize(offload_us.size());
  for (std::size_t layer = 0; layer < offload_us.size(); ++layer) {
    costs.offload_by_layer[layer] = waiting(offload_us[layer], lambda, weight);
  }
  costs.offload = costs.offload_by_layer.back();
}

}  // namespace splitee::policy
