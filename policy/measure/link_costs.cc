#include "policy/measure/link_costs.h"

#include <algorithm>
#include <cmath>

#include "base/status.h"

namespace splitee::policy {

void LinkCosts::add_offload(std::int64_t sent_us, std::int64_t link_us, std::uint64_t bytes,
                            std::size_t layers, double server_us) {
  link_.add(sent_us, link_us, bytes);
  trust_ = 1.0;
  // One slow answer must not count for many: at most four times what was expected.
  const auto count = static_cast<double>(layers);
  if (server_layer_.known()) {
    server_us = std::min(server_us, 4.0 * count * std::max(1.0, server_layer_.value()));
  }
  if (layers > 0) server_layer_.add(count, server_us);
}

void LinkCosts::add_sample() {
  if (server_layer_.known()) trust_ *= std::exp2(-0.1 / server_layer_.additions());
}

void LinkCosts::add_work(Part part, std::size_t count, double us) {
  if (count > 0) parts_[part].add(static_cast<double>(count), us);
}

// Where no layer was computed in one go: from the two parts of others.
double LinkCosts::layer_us() const {
  if (parts_[kLayer].known() || !parts_[kRest].known()) return parts_[kLayer].value();
  return parts_[kExit].value() + parts_[kRest].value();
}

void LinkCosts::price(std::span<const double> offload_us, double weight, CostModel& costs) const {
  SPLITEE_CHECK(work_known());
  const double lambda = costs.lambda();
  costs.lambda2 = lambda * head_us() / unit_us();
  costs.lambda1 = lambda - costs.lambda2;
  costs.last_layer_spared = std::clamp((unit_us() - parts_[kExit].value()) / layer_us(), 0.0, 1.0);
  if (offload_us.empty()) return;
  costs.offload_by_layer.resize(offload_us.size());
  for (std::size_t layer = 0; layer < offload_us.size(); ++layer) {
    costs.offload_by_layer[layer] = waiting(offload_us[layer], lambda, weight);
  }
  costs.offload = costs.offload_by_layer.back();
}

}  // namespace splitee::policy
