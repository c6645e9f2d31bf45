// What a model's exits answered to samples that it has not seen: kept in its file, so that policies
// know something of it from the first sample on (keys splitee.prior.*: runtime/file/model_keys.h).
// Rows are in random order. Besides, of what the network was trained on
// (tools/training/train_lib/stamp.py):
//   splitee.training_sets       array of string: names
//   splitee.training_sketch     array of u64: the lowest hashes of the texts
// Thread rule: plain values and pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tools/splitee/gguf_rewrite.h"

namespace splitee::tools {

inline constexpr std::size_t kMaxPriorRows = 2000;

inline constexpr std::uint32_t kNoTruth = 65535;

// Of the first samples of a set, at most kMaxPriorRows.
struct PriorRows {
  std::vector<std::uint16_t> labels;                    // (rows)
  std::vector<std::vector<std::uint16_t>> predictions;  // (exits, rows)
  std::vector<std::vector<float>> confidences;          // (exits, rows)
  std::size_t kinds = 1;  // of samples, that the rows are a mixture of
};

// Adds the next exit: log_probability (samples, classes), to be taken at `temperature`; `truth` has
// the class of every sample, or kNoTruth, and is the same in all calls.
void add_exit(PriorRows& rows, std::span<const float> log_probability, double temperature,
              std::span<const std::uint32_t> truth);

std::vector<NewKey> prior_keys(const PriorRows& rows);

}  // namespace splitee::tools
