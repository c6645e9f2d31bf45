// Runs the layers and exits of a ConvNetwork on maps that the caller holds.
// Thread rule: one thread (it has helper threads). Ownership: borrows the network; its workspace is
// allocated once, for the largest map. Determinism: the same bits for every number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/conv/conv_network.h"
#include "runtime/thread_pool.h"
#include "runtime/weights/products.h"

namespace splitee::runtime {

class ConvMaps {
 public:
  ConvMaps(const ConvNetwork& network, std::size_t threads);

  // y: the output of `layer`, from x, the output of the one before. They do not overlap.
  void run_layer(std::size_t layer, const float* x, float* y);
  // Probabilities (classes) of an exit, from the output of its layer; valid until the next call.
  std::span<const float> evaluate_exit(std::size_t exit, const float* x);

 private:
  struct Convolution {
    MapShape in, out;
    std::size_t kernel = 1, stride = 1;
    kernels::Epilogue epilogue = kernels::Epilogue::kNone;
    std::uint16_t* fixed = nullptr;  // where the output of a 1 x 1 one goes as a fixed map
    std::size_t border() const { return (kernel - 1) / 2; }
  };
  // One thread's, for some rows of a product at a time.
  struct Scratch {
    AlignedBuffer<float> rows;
    AlignedBuffer<std::byte> prepared;
  };

  void convolve(const Linear& linear, const Convolution& what, const float* x, float* y);
  // 1 x 1, from a byte map (kernels/kernels.h). `bias`: byte_bias() of `linear`.
  void convolve_bytes(const Linear& linear, const std::vector<float>& bias, std::size_t pixels,
                      const std::byte* x, float* y);
  std::vector<float> byte_bias(const Linear& linear) const;
  // From rows of a product: pixels as they are, or windows gathered from x, which has its border.
  void convolve_rows(const Linear& linear, const Convolution& what, const float* x,
                     std::size_t begin, std::size_t end, float* y, Scratch& scratch) const;
  // From windows where they lie in x, which has its border. int8: one scale for the whole map.
  void multiply_windows(const Linear& linear, const Convolution& what, const float* x, float* y);
  // A depthwise convolution or a pooling.
  void slide(void (*kernel)(const kernels::WindowArgs&), kernels::WindowArgs args);
  void add(float* x, const float* y, std::size_t n, kernels::Epilogue epilogue);

  const float* run_stem(const float* x);
  void run_basic(const ConvBlock& block, const ConvBlockWeights& weights, const float* x, float* y);
  void run_inverted(std::size_t layer, const float* x, float* y);
  // Whether what lies within an inverted residual is kept in fixed and byte maps.
  bool keeps_integers(const ConvBlock& block, const ConvBlockWeights& weights) const;
  // What a basic block adds: x itself, or in shortcut_.
  const float* shortcut_of(const ConvBlock& block, const ConvBlockWeights& weights, const float* x);

  const ConvNetwork& network_;
  const ConvConfig& config_;
  const kernels::Kernels& kernels_;
  ThreadPool pool_;
  std::vector<Scratch> scratch_;  // per thread
  // Maps; pages that no network needs are never touched.
  AlignedBuffer<float> stem_, pooled_, inner_, shortcut_, bordered_;
  AlignedBuffer<std::byte> prepared_map_;
  AlignedBuffer<float> mean_, logits_;
  AlignedBuffer<std::byte> prepared_;            // of a mean
  AlignedBuffer<std::byte> byte_head_;           // of all rows of byte maps
  std::vector<std::vector<float>> byte_biases_;  // per block; empty until it is needed
};

}  // namespace splitee::runtime
