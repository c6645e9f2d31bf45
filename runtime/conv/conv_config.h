// What a convolutional network is made of: its keys, and the sizes of its maps that follow.
// Formulas: runtime/conv/conv_format.h.
// Thread rule: plain values. Errors: kCorrupt and kUnsupported, naming the file and the key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/status.h"
#include "kernels/kernels.h"
#include "runtime/file/gguf.h"
#include "runtime/image/resize.h"
#include "runtime/network.h"

namespace splitee::runtime {

struct MapShape {
  std::size_t height = 0, width = 0, channels = 0;
  std::size_t pixels() const { return height * width; }
  std::size_t size() const { return pixels() * channels; }
  bool operator==(const MapShape&) const = default;
  // Behind a convolution, or a pooling.
  MapShape behind(std::size_t stride, std::size_t new_channels) const {
    return {(height + stride - 1) / stride, (width + stride - 1) / stride, new_channels};
  }
};

struct ConvBlock {
  MapShape in, out;
  std::size_t stride = 1;
  std::size_t hidden = 0;  // inverted alone
  bool stays() const { return stride == 1 && in.channels == out.channels; }
  // Of the map within: behind its first 3 x 3 convolution, or its 1 x 1 one.
  MapShape inner(bool inverted) const {
    return inverted ? MapShape{in.height, in.width, hidden} : out;
  }
};

struct ConvConfig {
  MapShape input;
  ResizeRule resize;
  std::vector<float> mean, std;
  std::size_t stem_kernel = 3, stem_stride = 1;
  bool stem_pool = false;
  MapShape stem;    // behind its convolution
  MapShape pooled;  // behind its pooling, or the same
  kernels::Epilogue activation = kernels::Epilogue::kRelu;
  bool inverted = false;
  bool projection = true;  // shortcuts of basic blocks that change something
  std::vector<ConvBlock> blocks;
  std::vector<std::size_t> exit_layers, exit_channels;  // per exit; 0 channels: none of its own

  std::size_t layers() const { return blocks.size(); }
  // Of the output of `layer`, 0 .. layers().
  const MapShape& map(std::size_t layer) const {
    return layer == 0 ? input : blocks[layer - 1].out;
  }
  // Values of the largest map, of the largest map behind a layer.
  std::uint64_t largest() const;
  std::size_t largest_layer() const;
  // Values of the largest map that a convolution reads, with the border that it adds.
  std::size_t largest_bordered() const;
  // The longest row that a product reads.
  std::size_t widest_row() const;
};

// Reads and checks the keys above, and read_exits()'s.
Status read_conv_config(const Gguf& file, ConvConfig& config, NetworkInfo& info);

// Multiplications and additions of a layer, without its exit.
double conv_operations(const ConvConfig& config, std::size_t layer);

}  // namespace splitee::runtime
