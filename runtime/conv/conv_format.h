// The model file of a convolutional network on images, besides what every model file has
// (runtime/file/model_keys.h). Written by tools/convert_images.py.
// Thread rule: constants only.
//
// Maps are (height * width, channels), line by line. A convolution of size k and stride s is padded
// by (k - 1) / 2 on each side: height and width become ceil(height / s), ceil(width / s). Batch
// norms are folded into its weights and bias. f is the network's activation.
//
//   x_0 = (pixel / 255 - mean) / std, RGB, at the input's size (how an image comes to it:
//   runtime/image/resize.h).
//   The first block reads the stem's output: f(conv(x_0)), where the file says so followed by max
//   pooling 3 x 3 of stride 2, padded by one. A layer is a block; the stem belongs to layer 1.
//   A basic block of stride s (He et al. 2016):
//     x_N = f(conv3x3(f(conv3x3_s(x_(N-1)))) + shortcut(x_(N-1)))
//   its shortcut is x itself where stride and channels stay, else a 1 x 1 convolution of stride s,
//   or (He's option A) every s-th pixel with zeros for the channels that are new, half of them
//   before and half behind.
//   An inverted residual (Sandler et al. 2018), with h channels within:
//     x_N = conv1x1(f(depthwise3x3_s(f(conv1x1(x_(N-1)))))), plus x_(N-1) where stride and channels
//   stay. Where h is the input's number of channels there is no first conv1x1.
//   An exit behind block N: softmax((W mean(g(x_N)) + b) / temperature), the mean over all pixels;
//   g(x) = f(conv1x1(x)) where the exit has channels of its own, else x.
//
// Keys
//   general.architecture   string  "splitee-conv"
//   conv.input_height      u32     1 .. 512
//   conv.input_width       u32     1 .. 512
//   conv.mean, conv.std    array of f32, 3 entries: finite; std from 1e-6 on
//   conv.resize            u32     optional (0). 0: the whole image becomes the input's size. Else
//                                  its shorter side becomes this (up to 1024, not below the
//                                  input's sides), and the middle is cut out
//   conv.stem_kernel       u32     1, 3, 5 or 7
//   conv.stem_stride       u32     1 .. 4
//   conv.stem_channels     u32     1 .. 4096
//   conv.stem_pool         u32     1: with max pooling; else 0
//   conv.activation        string  "relu", "relu6" or "hardswish"
//   conv.block             string  "basic" or "inverted": all blocks
//   conv.block_count       u32     blocks L, 1 .. 1024
//   conv.channels          array of u32, L entries: of each block's output, 1 .. 4096
//   conv.strides           array of u32, L entries: 1 or 2
//   conv.hidden            array of u32, L entries: h, 1 .. 16384; with "inverted" only
//   conv.shortcut          string  "projection" (default) or "pad", with "basic" only
//   conv.exit_channels     array of u32, an entry per exit: channels of its 1 x 1 convolution,
//                          0 .. 16384; 0: it has none
// A map behind a block has up to 65536 pixels (the wire's limit), any map up to 2^25 values.
//
// Tensors; a convolution NAME of size k, from i to o channels, is NAME.weight (o, k * k * i), in
// the order line, column, channel of the window, and NAME.bias (o). N = 0 .. L-1, K an exit's
// 1-based block.
//   stem                              k = conv.stem_kernel, i = 3
//   blk.N.conv1, blk.N.conv2          basic: k = 3
//   blk.N.shortcut                    basic, with a projection, where stride or channels change:
//   k=1 blk.N.expand, blk.N.project       inverted: k = 1; no expand where h is the input's
//   channels blk.N.depthwise.weight (9 * h), in the order line, column, channel; not I8.
//   blk.N.depthwise.bias (h) splitee.exit.K.conv               where the exit has channels of its
//   own: k = 1 splitee.exit.K.classifier.weight (classes, channels), .bias (classes)
#pragma once

#include <cstddef>
#include <string_view>

namespace splitee::runtime {

inline constexpr std::string_view kConvArchitecture = "splitee-conv";
inline constexpr std::string_view kKeyConvHeight = "conv.input_height";
inline constexpr std::string_view kKeyConvWidth = "conv.input_width";
inline constexpr std::string_view kKeyConvMean = "conv.mean";
inline constexpr std::string_view kKeyConvStd = "conv.std";
inline constexpr std::string_view kKeyConvResize = "conv.resize";
inline constexpr std::string_view kKeyConvStemKernel = "conv.stem_kernel";
inline constexpr std::string_view kKeyConvStemStride = "conv.stem_stride";
inline constexpr std::string_view kKeyConvStemChannels = "conv.stem_channels";
inline constexpr std::string_view kKeyConvStemPool = "conv.stem_pool";
inline constexpr std::string_view kKeyConvActivation = "conv.activation";
inline constexpr std::string_view kKeyConvBlock = "conv.block";
inline constexpr std::string_view kKeyConvBlocks = "conv.block_count";
inline constexpr std::string_view kKeyConvChannels = "conv.channels";
inline constexpr std::string_view kKeyConvStrides = "conv.strides";
inline constexpr std::string_view kKeyConvHidden = "conv.hidden";
inline constexpr std::string_view kKeyConvShortcut = "conv.shortcut";
inline constexpr std::string_view kKeyConvExitChannels = "conv.exit_channels";

inline constexpr std::size_t kMaxImageSide = 512;
inline constexpr std::size_t kMaxResize = 1024;
inline constexpr std::size_t kMaxStemStride = 4;
inline constexpr std::size_t kMaxChannels = 4096;
inline constexpr std::size_t kMaxHiddenChannels = 16384;
inline constexpr std::size_t kMaxMapPixels = 65536;                 // behind a block
inline constexpr std::size_t kMaxMapValues = std::size_t{1} << 25;  // of any map
inline constexpr float kLeastPixelStd = 1e-6f;

}  // namespace splitee::runtime
