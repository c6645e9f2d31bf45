// The model file of a network on rows of numbers, besides what every model file has
// (runtime/file/model_keys.h). Written by tools/convert_numbers.py.
// Thread rule: constants only.
//
// x_0 = (row - mean) / std.   x_N = f(W_N x_(N-1) + b_N), plus x_(N-1) where the block says so;
// f is ReLU or GELU (exact form). An exit behind block N: softmax((W x_N + b) / temperature).
//
// Keys
//   general.architecture    string  "splitee-numbers"
//   numbers.block_count     u32     blocks L, 1 .. 1024
//   numbers.feature_count   u32     numbers F of a row, 1 .. 65536
//   numbers.widths          array of u32, L entries: size of each block's output, 1 .. 16384
//   numbers.residual        array of u32, L entries: 1 where the block's input is added to its
//                           output, which has the same size then; else 0
//   numbers.activation      string  "relu" or "gelu"
//   numbers.columns         array of string, optional, F entries: the columns of a table that are
//                           the numbers, in their order; not empty, unique
//
// Tensors, as (rows, cols) like PyTorch's; C classes, N = 0 .. L-1, K an exit's 1-based block
//   input.mean (F)          input.std (F), above 0
//   blk.N.dense.weight (width of N, width of N-1 or F)     .bias (width of N)
//   splitee.exit.K.classifier.weight (C, width of K)       .bias (C)
#pragma once

#include <cstddef>
#include <string_view>

namespace splitee::runtime {

inline constexpr std::string_view kNumbersArchitecture = "splitee-numbers";
inline constexpr std::string_view kKeyNumbersBlocks = "numbers.block_count";
inline constexpr std::string_view kKeyNumbersFeatures = "numbers.feature_count";
inline constexpr std::string_view kKeyNumbersWidths = "numbers.widths";
inline constexpr std::string_view kKeyNumbersResidual = "numbers.residual";
inline constexpr std::string_view kKeyNumbersActivation = "numbers.activation";
inline constexpr std::string_view kKeyNumbersColumns = "numbers.columns";

inline constexpr std::size_t kMaxFeatures = 65536;
inline constexpr std::size_t kMaxWidth = 16384;

}  // namespace splitee::runtime
