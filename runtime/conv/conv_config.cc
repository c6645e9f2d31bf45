#include "runtime/conv/conv_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "runtime/conv/conv_format.h"
#include "runtime/file/model_keys.h"

namespace splitee::runtime {
namespace {

using kernels::Epilogue;

Result<std::vector<std::size_t>> read_sizes(const Gguf& file, std::string_view key,
                                            std::size_t count, std::string_view of,
                                            std::size_t least, std::size_t most) {
  const Result<std::vector<std::uint32_t>> sizes = file.get_u32_array(key);
  if (!sizes.ok()) return sizes.status();
  if (sizes->size() != count) {
    return bad_key(file, key,
                   " has " + std::to_string(sizes->size()) + " entries for " +
                       std::to_string(count) + " " + std::string(of));
  }
  for (const std::uint32_t size : *sizes) {
    if (size >= least && size <= most) continue;
    return bad_key(file, key,
                   " has " + std::to_string(size) + "; entries must be from " +
                       std::to_string(least) + " to " + std::to_string(most));
  }
  return std::vector<std::size_t>(sizes->begin(), sizes->end());
}

Status read_pixel_values(const Gguf& file, std::string_view key, float least,
                         std::vector<float>& values) {
  Result<std::vector<float>> found = file.get_f32_array(key);
  if (!found.ok()) return found.status();
  if (found->size() != 3) {
    return bad_key(file, key, " has " + std::to_string(found->size()) + " entries for 3 colours");
  }
  for (const float value : *found) {
    if (std::isfinite(value) && value >= least) continue;
    return bad_key(file, key, " has a value that is not finite, or too small");
  }
  values = std::move(*found);
  return {};
}

Status read_input(const Gguf& file, ConvConfig& config) {
  MapShape& input = config.input;
  input.channels = 3;
  if (Status s = read_size(file, kKeyConvHeight, 1, kMaxImageSide, input.height); !s.ok()) return s;
  if (Status s = read_size(file, kKeyConvWidth, 1, kMaxImageSide, input.width); !s.ok()) return s;
  config.resize = {input.height, input.width, 0};
  if (file.find(kKeyConvResize) != nullptr) {
    std::size_t& shorter = config.resize.shorter_side;
    if (Status s = read_size(file, kKeyConvResize, 0, kMaxResize, shorter); !s.ok()) return s;
    if (shorter != 0 && shorter < std::max(input.height, input.width)) {
      return bad_key(file, kKeyConvResize, " is below the input's sides");
    }
  }
  constexpr float kAny = -1e6f;
  if (Status s = read_pixel_values(file, kKeyConvMean, kAny, config.mean); !s.ok()) return s;
  return read_pixel_values(file, kKeyConvStd, kLeastPixelStd, config.std);
}

Status read_stem(const Gguf& file, ConvConfig& config) {
  std::size_t channels = 0, pool = 0;
  if (Status s = read_size(file, kKeyConvStemKernel, 1, 7, config.stem_kernel); !s.ok()) return s;
  if (config.stem_kernel % 2 == 0) return bad_key(file, kKeyConvStemKernel, " is even");
  if (Status s = read_size(file, kKeyConvStemStride, 1, kMaxStemStride, config.stem_stride);
      !s.ok()) {
    return s;
  }
  if (Status s = read_size(file, kKeyConvStemChannels, 1, kMaxChannels, channels); !s.ok()) {
    return s;
  }
  if (Status s = read_size(file, kKeyConvStemPool, 0, 1, pool); !s.ok()) return s;
  config.stem_pool = pool == 1;
  config.stem = config.input.behind(config.stem_stride, channels);
  config.pooled = config.stem_pool ? config.stem.behind(2, channels) : config.stem;
  return {};
}

Status read_words(const Gguf& file, ConvConfig& config) {
  // Required, unlike what read_word() reads.
  for (const std::string_view key : {kKeyConvActivation, kKeyConvBlock}) {
    if (const auto word = file.get_string(key); !word.ok()) return word.status();
  }
  using Activations = std::array<std::pair<std::string_view, Epilogue>, 3>;
  constexpr Activations kActivations = {{{"relu", Epilogue::kRelu},
                                         {"relu6", Epilogue::kRelu6},
                                         {"hardswish", Epilogue::kHardSwish}}};
  if (Status s = read_word(file, kKeyConvActivation, kActivations, config.activation); !s.ok()) {
    return s;
  }
  using Words = std::array<std::pair<std::string_view, bool>, 2>;
  constexpr Words kBlocks = {{{"basic", false}, {"inverted", true}}};
  constexpr Words kShortcuts = {{{"projection", true}, {"pad", false}}};
  if (Status s = read_word(file, kKeyConvBlock, kBlocks, config.inverted); !s.ok()) return s;
  return read_word(file, kKeyConvShortcut, kShortcuts, config.projection);
}

Status read_blocks(const Gguf& file, ConvConfig& config) {
  std::size_t count = 0;
  if (Status s = read_size(file, kKeyConvBlocks, 1, kMaxLayers, count); !s.ok()) return s;
  const auto channels = read_sizes(file, kKeyConvChannels, count, "blocks", 1, kMaxChannels);
  if (!channels.ok()) return channels.status();
  const auto strides = read_sizes(file, kKeyConvStrides, count, "blocks", 1, 2);
  if (!strides.ok()) return strides.status();
  std::vector<std::size_t> hidden(count, 0);
  if (config.inverted) {
    auto found = read_sizes(file, kKeyConvHidden, count, "blocks", 1, kMaxHiddenChannels);
    if (!found.ok()) return found.status();
    hidden = std::move(*found);
  }
  MapShape in = config.pooled;
  for (std::size_t i = 0; i < count; ++i) {
    const MapShape out = in.behind((*strides)[i], (*channels)[i]);
    config.blocks.push_back({in, out, (*strides)[i], hidden[i]});
    if (!config.inverted && !config.projection && out.channels < in.channels) {
      return bad_key(file, kKeyConvShortcut,
                     ": block " + std::to_string(i + 1) + " has fewer channels than its input");
    }
    in = out;
  }
  return {};
}

Status check_sizes(const Gguf& file, const ConvConfig& config) {
  if (config.largest() > kMaxMapValues) {
    return file.error(Code::kUnsupported, "a map has " + std::to_string(config.largest()) +
                                              " values; up to " + std::to_string(kMaxMapValues) +
                                              " are possible");
  }
  for (const ConvBlock& block : config.blocks) {
    if (block.out.pixels() <= kMaxMapPixels) continue;
    return file.error(Code::kUnsupported,
                      "a map behind a block has " + std::to_string(block.out.pixels()) +
                          " pixels; up to " + std::to_string(kMaxMapPixels) + " are possible");
  }
  return {};
}

double operations_of(const MapShape& out, std::size_t row) {
  return 2.0 * static_cast<double>(out.size()) * static_cast<double>(row);
}

}  // namespace

std::uint64_t ConvConfig::largest() const {
  const auto values = [](std::uint64_t pixels, std::size_t channels) { return pixels * channels; };
  std::uint64_t most =
      std::max(values(input.pixels(), input.channels), values(stem.pixels(), stem.channels));
  for (const ConvBlock& block : blocks) {
    const MapShape inner = block.inner(inverted);
    most = std::max({most, values(inner.pixels(), inner.channels),
                     values(block.out.pixels(), block.out.channels)});
  }
  for (std::size_t i = 0; i < exit_layers.size(); ++i) {
    most = std::max(most, values(map(exit_layers[i]).pixels(), exit_channels[i]));
  }
  return most;
}

std::size_t ConvConfig::largest_layer() const {
  std::size_t most = input.size();
  for (const ConvBlock& block : blocks) most = std::max(most, block.out.size());
  return most;
}

std::size_t ConvConfig::largest_bordered() const {
  const auto values = [](const MapShape& map, std::size_t kernel) {
    const std::size_t more = kernel - 1;
    return (map.height + more) * (map.width + more) * map.channels;
  };
  std::size_t most = values(input, stem_kernel);
  for (const ConvBlock& block : blocks) {
    if (!inverted) most = std::max({most, values(block.in, 3), values(block.out, 3)});
  }
  return most;
}

std::size_t ConvConfig::widest_row() const {
  std::size_t most = stem_kernel * stem_kernel * input.channels;
  for (const ConvBlock& block : blocks) {
    most = std::max({most, block.in.channels, block.hidden, block.out.channels});
    if (!inverted) most = std::max({most, 9 * block.in.channels, 9 * block.out.channels});
  }
  for (const std::size_t channels : exit_channels) most = std::max(most, channels);
  return most;
}

Status read_conv_config(const Gguf& file, ConvConfig& config, NetworkInfo& info) {
  for (const auto& read : {read_input, read_stem, read_words, read_blocks}) {
    if (Status s = read(file, config); !s.ok()) return s;
  }
  if (Status s = read_exits(file, config.layers(), info); !s.ok()) return s;
  auto channels =
      read_sizes(file, kKeyConvExitChannels, info.exits(), "exits", 0, kMaxHiddenChannels);
  if (!channels.ok()) return channels.status();
  config.exit_layers = info.exit_layers;
  config.exit_channels = std::move(*channels);
  return check_sizes(file, config);
}

double conv_operations(const ConvConfig& config, std::size_t layer) {
  constexpr std::size_t kWindow = 9;
  const ConvBlock& block = config.blocks[layer - 1];
  double sum = 0;
  if (layer == 1) {
    sum += operations_of(config.stem, config.stem_kernel * config.stem_kernel * 3);
  }
  if (!config.inverted) {
    sum += operations_of(block.out, kWindow * (block.in.channels + block.out.channels));
    if (!block.stays() && config.projection) sum += operations_of(block.out, block.in.channels);
    return sum;
  }
  if (block.hidden != block.in.channels) {
    sum += operations_of(block.inner(true), block.in.channels);
  }
  const MapShape deep = block.in.behind(block.stride, block.hidden);
  return sum + operations_of(deep, kWindow) + operations_of(block.out, block.hidden);
}

}  // namespace splitee::runtime
