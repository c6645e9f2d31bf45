// Whether two networks of the same shape compute the same, layer by layer from equal inputs, so
// that nothing adds up: two kernel targets on one file, or two files. Differences are relative
// (root mean square of the difference over that of the reference's layer), once over all, once for
// the worst token and once for the worst channel: an error that is confined to one row of a matrix
// shows in one channel, one that is confined to a token in one row. Thread rule: one thread per
// engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/bert/engine.h"

namespace splitee::testing {

// Of `all`. On a trained int8 network targets that compute attention in single precision differ by
// up to 0.002, where a value on the edge is rounded to another step; a wrong row, a wrong scale or
// a dropped column of one matrix makes 0.006 to 0.08 (tests/runtime/planted_weights.py).
inline constexpr double kLayerTolerance = 0.004;
// Where attention is rounded to bfloat16, which alone makes up to 0.017.
inline constexpr double kRoundedLayerTolerance = 0.03;
inline constexpr double kExitTolerance = 0.002;  // of a probability

struct LayerDifference {
  std::size_t layer = 0;  // 1-based
  double all = 0, worst_row = 0, worst_column = 0;
  double tolerance = kLayerTolerance;
  double exit = 0;  // largest difference of a probability, where the layer has an exit
  bool small() const;
};

// `ids` as BertEngine::begin() takes them.
std::vector<LayerDifference> compare_layers(runtime::BertEngine& reference,
                                            runtime::BertEngine& other,
                                            std::span<const std::int32_t> ids);

// The first one that is not small, in words; empty without one.
std::string first_large(std::span<const LayerDifference> differences);

}  // namespace splitee::testing
