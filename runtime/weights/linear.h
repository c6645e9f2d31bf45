// Weights as the kernels take them.
// Thread rule: plain values, filled once (runtime/weights/weight_loader.h) and read by many
// threads.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/kernels.h"

namespace splitee::runtime {

// Weights of one Linear (out, in), packed for `kernel`.
struct Linear {
  std::size_t out = 0, in = 0;
  const kernels::Matmul* kernel = nullptr;
  const std::byte* packed = nullptr;
  std::vector<float> bias;
  std::vector<float> input_scales;  // i8: of the columns of its input; empty where they are 1
};

struct LayerNorm {
  std::vector<float> gamma, beta;
};

}  // namespace splitee::runtime
