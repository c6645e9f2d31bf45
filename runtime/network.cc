#include "runtime/network.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "base/floats.h"

namespace splitee::runtime {

std::string_view to_string(InputKind kind) {
  switch (kind) {
    case InputKind::kText:
      return "text";
    case InputKind::kNumbers:
      return "numbers";
    case InputKind::kImage:
      return "images";
  }
  return "unknown";
}

Status check_activation(const NetworkInfo& info, std::size_t layer, std::size_t rows,
                        std::span<const float> activation) {
  const auto invalid = [](const std::string& what) { return Status(Code::kInvalidArgument, what); };
  if (layer > info.layers()) {
    return invalid("layer " + std::to_string(layer) + " of a model with " +
                   std::to_string(info.layers()));
  }
  const LayerSizes& sizes = info.sizes[layer];
  if (rows != sizes.rows || activation.size() != sizes.rows * sizes.cols) {
    return invalid("an activation of " + std::to_string(rows) + " rows and " +
                   std::to_string(activation.size()) + " values; " + std::to_string(sizes.rows) +
                   " rows of " + std::to_string(sizes.cols) + " are expected");
  }
  if (!all_finite(activation)) return invalid("the activation has a value that is not finite");
  return {};
}

void order_by_layer(std::span<const BatchSample> samples, std::vector<std::size_t>& order) {
  order.resize(samples.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return samples[i].layer; });
}

double operations_after(std::span<const LayerSizes> sizes, std::size_t layer, std::size_t length) {
  const auto units = static_cast<double>(length);
  double sum = 0;
  for (std::size_t i = layer + 1; i < sizes.size(); ++i) {
    sum +=
        sizes[i].operations + units * (sizes[i].unit_operations + units * sizes[i].pair_operations);
  }
  return sum;
}

}  // namespace splitee::runtime
