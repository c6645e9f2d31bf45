// Both sides on the same inputs: equal answers first, then times, interleaved in one process.
#pragma once

#include <string>
#include <vector>

#include "bench/peers/ort.h"

namespace splitee::bench {

struct CompareOptions {
  std::string gguf;       // our model file
  std::string target;     // kernel target; empty: the best
  OrtOptions ort;         // the peer's; `threads` is for both sides
  std::string reference;  // fp32 .onnx file whose answers are taken for exact; empty: `ort`'s
  std::string dtype;      // f32, bf16 or i8: whose peak is measured
  std::vector<std::size_t> tokens;
  double seconds = 10;  // for all lengths together
};

// Prints one JSON object to standard output.
void compare(const CompareOptions& options);

}  // namespace splitee::bench
