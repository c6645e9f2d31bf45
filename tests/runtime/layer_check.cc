#include "tests/runtime/layer_check.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "base/status.h"

namespace splitee::testing {
namespace {

void require(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "layer check: %s\n", status.message().c_str());
  std::exit(1);
}

std::vector<float> layer_of(runtime::BertEngine& engine, std::size_t layer, std::size_t tokens,
                            std::span<const float> input) {
  require(engine.resume(layer - 1, tokens, input));
  require(engine.run_to(layer));
  engine.finish_layer();
  const std::span<const float> output = engine.activation();
  return {output.begin(), output.end()};
}

LayerDifference difference(std::span<const float> expected, std::span<const float> actual,
                           std::size_t rows) {
  const std::size_t cols = expected.size() / rows;
  std::vector<double> row_error(rows), column_error(cols);
  double size = 0, error = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < cols; ++c) {
      const double value = expected[r * cols + c], off = actual[r * cols + c] - value;
      size += value * value;
      error += off * off;
      row_error[r] += off * off;
      column_error[c] += off * off;
    }
  }
  const auto relative = [&](double sum, std::size_t parts) {
    return std::sqrt(sum * static_cast<double>(parts) / size);
  };
  return {.all = relative(error, 1),
          .worst_row = relative(*std::ranges::max_element(row_error), rows),
          .worst_column = relative(*std::ranges::max_element(column_error), cols)};
}

double tolerance_of(const runtime::BertNetwork& model) {
  const kernels::Kernels& kernels = model.kernels();
  const bool rounds = kernels.attention_bf16 != kernels.attention && model.config().dtype != "f32";
  return rounds ? kRoundedLayerTolerance : kLayerTolerance;
}

double exit_difference(runtime::BertEngine& reference, runtime::BertEngine& other,
                       std::size_t layer) {
  const std::vector<std::size_t>& exits = reference.model().config().exit_layers;
  const auto at = std::ranges::find(exits, layer);
  if (at == exits.end()) return 0;
  const auto exit = static_cast<std::size_t>(at - exits.begin());
  const std::span<const float> expected = reference.evaluate_exit(exit);
  const std::span<const float> actual = other.evaluate_exit(exit);
  double most = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    most = std::max(most, std::fabs(static_cast<double>(expected[i]) - actual[i]));
  }
  return most;
}

}  // namespace

bool LayerDifference::small() const {
  // The worst of many is a few times the mean also where nothing is wrong.
  constexpr double kWorst = 4;
  return all <= tolerance && worst_row <= kWorst * tolerance &&
         worst_column <= kWorst * tolerance && exit <= kExitTolerance;
}

std::vector<LayerDifference> compare_layers(runtime::BertEngine& reference,
                                            runtime::BertEngine& other,
                                            std::span<const std::int32_t> ids) {
  const std::vector<std::int32_t> types(ids.size(), 0);
  require(reference.begin(ids, types));
  std::vector<float> input(reference.activation().begin(), reference.activation().end());
  std::vector<LayerDifference> result;
  for (std::size_t layer = 1; layer <= reference.model().config().layers; ++layer) {
    const std::vector<float> actual = layer_of(other, layer, ids.size(), input);
    std::vector<float> expected = layer_of(reference, layer, ids.size(), input);
    result.push_back(difference(expected, actual, ids.size()));
    result.back().layer = layer;
    result.back().tolerance = tolerance_of(other.model());
    // From the same activation.
    require(other.resume(layer - 1, ids.size(), input));
    require(other.run_to(layer));
    result.back().exit = exit_difference(reference, other, layer);
    input = std::move(expected);
  }
  return result;
}

std::string first_large(std::span<const LayerDifference> differences) {
  const auto found = std::ranges::find_if_not(differences, &LayerDifference::small);
  if (found == differences.end()) return {};
  char text[200];
  std::snprintf(text, sizeof text,
                "layer %zu differs: %.4f in all, %.4f in one token, %.4f in one channel, %.4f at "
                "its exit",
                found->layer, found->all, found->worst_row, found->worst_column, found->exit);
  return text;
}

}  // namespace splitee::testing
