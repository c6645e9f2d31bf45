#include "runtime/conv/conv_maps.h"

#include <algorithm>

#include "runtime/conv/conv_format.h"

namespace splitee::runtime {
namespace {

using kernels::Epilogue;
using kernels::WindowArgs;

// Rows of a product that are prepared and multiplied while they are in the second-level cache.
constexpr std::size_t kRowsBytes = std::size_t{128} << 10;
constexpr std::size_t kFewestRows = 8, kMostRows = 512;
// What the lines of a convolution that are multiplied together read and write, so that both stay in
// the second-level cache while the panels of the weights pass.
constexpr std::size_t kTogetherBytes = std::size_t{384} << 10;
constexpr std::size_t kPanelsToShare = 2;  // per thread, and more
constexpr std::size_t kPiece = 4;          // values of a piece of a window, where rows are prepared
// The largest of fewer channels is often far below 6, so that a pixel's own scale is finer.
constexpr std::size_t kFewestForBytes = 32;
constexpr double kGrainOperations = 1e6;  // worth handing to another thread

MapShape with_border(const MapShape& map, std::size_t border) {
  return {map.height + 2 * border, map.width + 2 * border, map.channels};
}

// A map with `border` pixels of zeros around it.
void add_border(const float* x, const MapShape& map, std::size_t border, float* y) {
  const std::size_t line = map.width * map.channels, side = border * map.channels;
  const std::size_t above = border * (line + 2 * side);
  std::fill_n(y, above, 0.0f);
  y += above;
  for (std::size_t i = 0; i < map.height; ++i, x += line, y += line + 2 * side) {
    std::fill_n(y, side, 0.0f);
    std::copy_n(x, line, y + side);
    std::fill_n(y + side + line, side, 0.0f);
  }
  std::fill_n(y, above, 0.0f);
}

std::size_t rows_at_once(std::size_t k) {
  return std::clamp(kRowsBytes / (k * sizeof(float)), kFewestRows, kMostRows);
}

// The windows of pixels [begin, end) of the output, one after the other.
void gather(const float* bordered, const MapShape& map, std::size_t kernel, std::size_t stride,
            std::size_t out_width, std::size_t begin, std::size_t end, float* rows) {
  const std::size_t line = kernel * map.channels;
  for (std::size_t pixel = begin; pixel < end; ++pixel) {
    const std::size_t top = pixel / out_width * stride, left = pixel % out_width * stride;
    for (std::size_t i = 0; i < kernel; ++i, rows += line) {
      std::copy_n(bordered + ((top + i) * map.width + left) * map.channels, line, rows);
    }
  }
}

// m rows of A, which are still to be said, by all of a weight: rows of floats where the arithmetic
// takes them, else prepared ones, without gaps.
kernels::MatmulArgs product_of(const Linear& linear, std::size_t m, float* c) {
  const kernels::Matmul& kernel = *linear.kernel;
  return {.a = nullptr,
          .a_stride_bytes = kernel.prepare == nullptr ? linear.in * sizeof(float)
                                                      : kernel.prepared_bytes(linear.in),
          .packed = linear.packed,
          .bias = linear.bias.data(),
          .c = c,
          .c_stride = linear.out,
          .m = m,
          .n = linear.out,
          .k = linear.in,
          .n_begin = 0,
          .n_end = linear.out};
}

std::size_t grain_of(double operations_per_row) {
  return static_cast<std::size_t>(1.0 + kGrainOperations / operations_per_row);
}

// Every stride-th pixel, its channels in the middle of more (He et al. 2016, option A).
void pad_shortcut(const ConvBlock& block, const float* x, float* y) {
  const std::size_t in = block.in.channels, out = block.out.channels, before = (out - in) / 2;
  for (std::size_t pixel = 0; pixel < block.out.pixels(); ++pixel, y += out) {
    const std::size_t row = pixel / block.out.width * block.stride;
    const std::size_t col = pixel % block.out.width * block.stride;
    std::fill_n(y, out, 0.0f);
    std::copy_n(x + (row * block.in.width + col) * in, in, y + before);
  }
}

}  // namespace

ConvMaps::ConvMaps(const ConvNetwork& network, std::size_t threads)
    : network_(network), config_(network.config()), kernels_(network.kernels()), pool_(threads) {
  const std::size_t widest = config_.widest_row(), classes = network.info().classes();
  const std::size_t row = prepared_bytes(kernels_, widest);
  for (std::size_t i = 0; i < pool_.threads(); ++i) {
    // Prepared rows are at most twice as long as rows of floats, and a head longer.
    constexpr std::size_t kHead = 256;
    scratch_.push_back(
        {allocate_aligned<float>(kRowsBytes / sizeof(float) + kFewestRows * widest),
         allocate_aligned<std::byte>(2 * kRowsBytes + kMostRows * kHead + kFewestRows * row)});
  }
  const auto largest = static_cast<std::size_t>(config_.largest());
  for (AlignedBuffer<float>* map : {&stem_, &pooled_, &inner_, &shortcut_}) {
    *map = allocate_aligned<float>(largest);
  }
  const std::size_t bordered = config_.largest_bordered();
  bordered_ = allocate_aligned<float>(bordered);
  prepared_map_ = allocate_aligned<std::byte>(prepared_bytes(kernels_, bordered));
  mean_ = allocate_aligned<float>(widest);
  prepared_ = allocate_aligned<std::byte>(row);
  logits_ = allocate_aligned<float>(classes);
  // A row of this one value has a unit as its scale.
  const float value = 127.0f * (6.0f / kernels::kByteSteps);
  byte_head_ = allocate_aligned<std::byte>(kernels_.i8.prepared_bytes(1));
  kernels_.i8.prepare(&value, 1, nullptr, 1, 1, byte_head_.get());
  byte_biases_.resize(config_.layers());
}

void ConvMaps::convolve_rows(const Linear& linear, const Convolution& what, const float* x,
                             std::size_t begin, std::size_t end, float* y, Scratch& scratch) const {
  const bool as_they_are = what.kernel == 1 && what.stride == 1;
  const float* rows = as_they_are ? x + begin * what.in.channels : scratch.rows.get();
  if (!as_they_are) {
    gather(x, with_border(what.in, what.border()), what.kernel, what.stride, what.out.width, begin,
           end, scratch.rows.get());
  }
  const kernels::Matmul& kernel = *linear.kernel;
  prepare_rows(linear, rows, 0, end - begin, scratch.prepared.get());
  kernels::MatmulArgs args = product_of(linear, end - begin, y + begin * linear.out);
  args.a = kernel.prepare == nullptr ? static_cast<const void*>(rows) : scratch.prepared.get();
  args.epilogue = what.epilogue;
  if (what.fixed != nullptr) args.fixed = what.fixed + begin * linear.out;
  kernel.multiply(args);
}

void ConvMaps::multiply_windows(const Linear& linear, const Convolution& what, const float* x,
                                float* y) {
  const kernels::Matmul& kernel = *linear.kernel;
  const MapShape map = with_border(what.in, what.border());
  const auto* a = reinterpret_cast<const std::byte*>(x);
  const std::byte* head = nullptr;
  if (kernel.prepare != nullptr) {
    // As one row: so that all windows, which share its pixels, share its scale.
    kernel.prepare(x, map.size(), nullptr, 1, map.size(), prepared_map_.get());
    head = prepared_map_.get();
    a = head + kernel.head_bytes;
  }
  const std::size_t pixel = map.channels * kernel.value_bytes, line = map.width * pixel;
  const auto multiply_part = [&](std::size_t begin, std::size_t end, std::size_t n_begin,
                                 std::size_t n_end) {
    kernel.multiply({.a = a + begin * what.stride * line,
                     .a_stride_bytes = what.stride * pixel,
                     .packed = linear.packed,
                     .bias = linear.bias.data(),
                     .c = y + begin * what.out.width * linear.out,
                     .c_stride = linear.out,
                     .m = (end - begin) * what.out.width,
                     .n = linear.out,
                     .k = linear.in,
                     .n_begin = n_begin,
                     .n_end = n_end,
                     .epilogue = what.epilogue,
                     .line_rows = what.out.width,
                     .line_stride_bytes = what.stride * line,
                     .parts = what.kernel,
                     .part_stride_bytes = line,
                     .head = head});
  };
  const std::size_t lines = what.out.height;
  const double line_operations = 2.0 * static_cast<double>(linear.in * linear.out * what.out.width);
  const std::size_t panels = (linear.out + kernel.columns - 1) / kernel.columns;
  const std::size_t together = std::max<std::size_t>(
      1, kTogetherBytes / (what.stride * line + what.out.width * linear.out * sizeof(float)));
  if (together >= lines && panels >= kPanelsToShare * pool_.threads()) {
    // Threads share the weights, of which there are many here, not the map.
    const std::size_t grain =
        grain_of(line_operations * static_cast<double>(lines) / static_cast<double>(panels));
    pool_.share(panels, grain, [&](std::size_t, std::size_t begin, std::size_t end) {
      multiply_part(0, lines, begin * kernel.columns, std::min(end * kernel.columns, linear.out));
    });
    return;
  }
  pool_.share(lines, grain_of(line_operations),
              [&](std::size_t, std::size_t begin, std::size_t end) {
                for (std::size_t first = begin; first < end; first += together) {
                  multiply_part(first, std::min(first + together, end), 0, linear.out);
                }
              });
}

void ConvMaps::convolve(const Linear& linear, const Convolution& what, const float* x, float* y) {
  if (what.border() != 0) {
    add_border(x, what.in, what.border(), bordered_.get());
    x = bordered_.get();
  }
  const bool whole_pieces =
      linear.kernel->prepare == nullptr ||
      (what.kernel * what.in.channels % kPiece == 0 && linear.input_scales.empty());
  if (what.kernel * what.stride > 1 && whole_pieces) return multiply_windows(linear, what, x, y);
  const std::size_t most = rows_at_once(linear.in);
  const std::size_t grain =
      grain_of(2.0 * static_cast<double>(linear.in) * static_cast<double>(linear.out));
  pool_.share(
      what.out.pixels(), grain, [&](std::size_t worker, std::size_t begin, std::size_t end) {
        for (std::size_t row = begin; row < end; row += most) {
          convolve_rows(linear, what, x, row, std::min(row + most, end), y, scratch_[worker]);
        }
      });
}

void ConvMaps::convolve_bytes(const Linear& linear, const std::vector<float>& bias,
                              std::size_t pixels, const std::byte* x, float* y) {
  const std::size_t grain =
      grain_of(2.0 * static_cast<double>(linear.in) * static_cast<double>(linear.out));
  pool_.share(pixels, grain, [&](std::size_t, std::size_t begin, std::size_t end) {
    kernels::MatmulArgs args = product_of(linear, end - begin, y + begin * linear.out);
    args.a = x + begin * linear.in;
    args.a_stride_bytes = linear.in;
    args.bias = bias.data();
    args.head = byte_head_.get();
    linear.kernel->multiply(args);
  });
}

// A byte map holds its values less byte_zero units: the product of those is added.
std::vector<float> ConvMaps::byte_bias(const Linear& linear) const {
  const kernels::Matmul& kernel = *linear.kernel;
  const float zero = static_cast<float>(kernel.byte_zero) * (6.0f / kernels::kByteSteps);
  const std::vector<float> row(linear.in, zero);
  const auto prepared = allocate_aligned<std::byte>(kernel.prepared_bytes(linear.in));
  prepare_rows(linear, row.data(), 0, 1, prepared.get());
  std::vector<float> bias(linear.out);
  kernels::MatmulArgs args = product_of(linear, 1, bias.data());
  args.a = prepared.get();
  kernel.multiply(args);
  return bias;
}

void ConvMaps::slide(void (*kernel)(const WindowArgs&), WindowArgs args) {
  const std::size_t lines = (args.height + args.stride - 1) / args.stride;
  const std::size_t grain = grain_of(18.0 * static_cast<double>(args.width * args.channels));
  pool_.share(lines, grain, [&](std::size_t, std::size_t begin, std::size_t end) {
    WindowArgs part = args;
    part.begin = begin;
    part.end = end;
    kernel(part);
  });
}

void ConvMaps::add(float* x, const float* y, std::size_t n, Epilogue epilogue) {
  constexpr std::size_t kGrain = std::size_t{1} << 16;
  pool_.share(n, kGrain, [&](std::size_t, std::size_t begin, std::size_t end) {
    kernels_.add(x + begin, y + begin, end - begin, epilogue);
  });
}

const float* ConvMaps::run_stem(const float* x) {
  const MapShape& stem = config_.stem;
  convolve(network_.stem(),
           {config_.input, stem, config_.stem_kernel, config_.stem_stride, config_.activation}, x,
           stem_.get());
  if (!config_.stem_pool) return stem_.get();
  slide(kernels_.max_pool3x3, {.x = stem_.get(),
                               .height = stem.height,
                               .width = stem.width,
                               .channels = stem.channels,
                               .stride = 2,
                               .weights = nullptr,
                               .bias = nullptr,
                               .out = pooled_.get(),
                               .begin = 0,
                               .end = 0});
  return pooled_.get();
}

const float* ConvMaps::shortcut_of(const ConvBlock& block, const ConvBlockWeights& weights,
                                   const float* x) {
  if (block.stays()) return x;
  if (config_.projection) {
    convolve(weights.shortcut, {block.in, block.out, 1, block.stride}, x, shortcut_.get());
  } else {
    pad_shortcut(block, x, shortcut_.get());
  }
  return shortcut_.get();
}

void ConvMaps::run_basic(const ConvBlock& block, const ConvBlockWeights& weights, const float* x,
                         float* y) {
  convolve(weights.first, {block.in, block.out, 3, block.stride, config_.activation}, x,
           inner_.get());
  convolve(weights.second, {block.out, block.out, 3, 1}, inner_.get(), y);
  add(y, shortcut_of(block, weights, x), block.out.size(), config_.activation);
}

bool ConvMaps::keeps_integers(const ConvBlock& block, const ConvBlockWeights& weights) const {
  return config_.activation == Epilogue::kRelu6 && block.hidden >= kFewestForBytes &&
         block.hidden % kPiece == 0 && weights.second.kernel == &kernels_.i8 &&
         weights.second.input_scales.empty();
}

void ConvMaps::run_inverted(std::size_t layer, const float* x, float* y) {
  const ConvBlock& block = config_.blocks[layer - 1];
  const ConvBlockWeights& weights = network_.block(layer);
  const MapShape inner = block.inner(true);
  const MapShape deep = inner.behind(block.stride, inner.channels);
  const bool integers = keeps_integers(block, weights);
  WindowArgs window{.x = x,
                    .height = inner.height,
                    .width = inner.width,
                    .channels = inner.channels,
                    .stride = block.stride,
                    .weights = weights.depthwise.data(),
                    .bias = weights.depthwise_bias.data(),
                    .out = shortcut_.get(),
                    .begin = 0,
                    .end = 0,
                    .epilogue = config_.activation};
  auto* deep_bytes = reinterpret_cast<std::byte*>(shortcut_.get());
  if (integers) window.byte_out = deep_bytes;
  if (block.hidden != block.in.channels) {
    Convolution expand{block.in, inner, 1, 1, config_.activation};
    if (integers && weights.first.kernel == &kernels_.i8) {
      expand.fixed = reinterpret_cast<std::uint16_t*>(inner_.get());
      window.fixed_x = expand.fixed;
    }
    convolve(weights.first, expand, x, inner_.get());
    window.x = inner_.get();
  }
  slide(kernels_.depthwise3x3, window);
  if (integers) {
    std::vector<float>& bias = byte_biases_[layer - 1];
    if (bias.empty()) bias = byte_bias(weights.second);
    convolve_bytes(weights.second, bias, deep.pixels(), deep_bytes, y);
  } else {
    convolve(weights.second, {deep, block.out, 1, 1}, shortcut_.get(), y);
  }
  if (block.stays()) add(y, x, block.out.size(), Epilogue::kNone);
}

void ConvMaps::run_layer(std::size_t layer, const float* x, float* y) {
  if (layer == 1) x = run_stem(x);
  if (config_.inverted) {
    run_inverted(layer, x, y);
  } else {
    run_basic(config_.blocks[layer - 1], network_.block(layer), x, y);
  }
}

std::span<const float> ConvMaps::evaluate_exit(std::size_t exit, const float* x) {
  const ConvExitWeights& weights = network_.exit(exit);
  MapShape map = config_.map(config_.exit_layers[exit]);
  if (config_.exit_channels[exit] != 0) {
    const MapShape own = map.behind(1, config_.exit_channels[exit]);
    convolve(weights.conv, {map, own, 1, 1, config_.activation}, x, inner_.get());
    x = inner_.get();
    map = own;
  }
  kernels_.mean_rows(x, map.pixels(), map.channels, mean_.get());
  const Linear& classifier = weights.classifier;
  multiply(classifier, prepare(classifier, mean_.get(), 1, prepared_.get(), pool_), logits_.get(),
           1, 0, classifier.out, pool_);
  const std::span<float> logits(logits_.get(), classifier.out);
  for (float& value : logits) value /= network_.info().temperatures[exit];
  kernels_.softmax(logits.data(), logits.size(), 1, logits.size());
  return logits;
}

}  // namespace splitee::runtime
