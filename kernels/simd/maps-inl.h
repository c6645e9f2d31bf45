// Operations on maps of pixels, NHWC: depthwise 3 x 3, max pooling, means, sums. Channels are the
// lanes; the window's place within the map is worked out once per pixel.
#pragma once

#include "kernels/kernels.h"
#include "kernels/simd/elements-inl.h"

namespace splitee::kernels {
namespace {

// Body(vector index's first element, load, store) for whole vectors and what is left.
template <class V, class Body>
void each_vector(std::size_t n, const Body& body) {
  std::size_t i = 0;
  const auto whole = [](const float* p) { return load_vector<V>(p); };
  for (; i + kLanes<V> <= n; i += kLanes<V>) {
    body(i, whole, [](float* p, V v) { store_vector(p, v); });
  }
  if (i == n) return;
  const std::size_t left = n - i;
  body(
      i, [left](const float* p) { return load_first<V>(p, left, 0.0f); },
      [left](float* p, V v) { store_first(p, left, v); });
}

// Where the window of a pixel of the output lies within the map.
struct Window {
  std::size_t top, bottom, left, right;  // of 0 .. 3, [top, bottom) and [left, right)
  std::size_t first;                     // value of x that window (top, left) falls on
};
inline Window window_at(const WindowArgs& a, std::size_t row, std::size_t col) {
  const std::size_t y = row * a.stride, x = col * a.stride;  // of its middle
  const std::size_t top = y == 0 ? 1 : 0, left = x == 0 ? 1 : 0;
  return {top, y + 1 < a.height ? 3u : 2u, left, x + 1 < a.width ? 3u : 2u,
          ((y + top - 1) * a.width + x + left - 1) * a.channels};
}

template <class Body>
void each_window(const WindowArgs& a, const Body& body) {
  const std::size_t out_width = (a.width + a.stride - 1) / a.stride;
  for (std::size_t row = a.begin; row < a.end; ++row) {
    for (std::size_t col = 0; col < out_width; ++col) {
      body(window_at(a, row, col), a.out + (row * out_width + col) * a.channels);
    }
  }
}

// How a depthwise convolution reads and writes: load() and store() take some channels, all lanes
// where `count` is a constant; the sums begin at bias().
template <class VectorType>
struct FloatMaps {
  using V = VectorType;
  static const float* x(const WindowArgs& a) { return a.x; }
  static float* out(const WindowArgs& a) { return a.out; }
  static V load(const float* p, std::size_t count) { return load_up_to<V>(p, count); }
  static V bias(V b) { return b; }
  static void store(const WindowArgs& a, float* p, std::size_t count, V sum) {
    const V value = activated_fast(a.epilogue, sum);
    if (count >= kLanes<V>) return store_vector(p, value);
    store_first(p, count, value);
  }
};
// To a byte map, in the form of the arithmetic I8. Sums are of values kOfOne times as large.
template <class I8, bool kFromFixed>
struct ByteMaps {
  using V = typename I8::V;
  static constexpr float kOfOne = kFromFixed ? kFixedOfOne : 1.0f;
  static std::byte* out(const WindowArgs& a) { return a.byte_out; }
  static V bias(V b) { return b * V(kOfOne); }
  static void store(const WindowArgs&, std::byte* p, std::size_t count, V sum) {
    const V units = sum * V(kUnitsOfOne / kOfOne);
    if (count >= kLanes<V>) return I8::store_units(p, units);
    std::byte lanes[kLanes<V>];
    I8::store_units(lanes, units);
    __builtin_memcpy(p, lanes, count);
  }
};
template <class I8>
struct FloatToByte : ByteMaps<I8, false> {
  using V = typename I8::V;
  static const float* x(const WindowArgs& a) { return a.x; }
  static V load(const float* p, std::size_t count) { return load_up_to<V>(p, count); }
};
template <class I8>
struct FixedToByte : ByteMaps<I8, true> {
  using V = typename I8::V;
  static const std::uint16_t* x(const WindowArgs& a) { return a.fixed_x; }
  static V load(const std::uint16_t* p, std::size_t count) {
    if (count >= kLanes<V>) return load_fixed<V>(p);
    std::uint16_t lanes[kLanes<V>] = {};
    __builtin_memcpy(lanes, p, count * sizeof *p);
    return load_fixed<V>(lanes);
  }
};

// body(first channel, how many of them, a constant where they are all lanes)
template <class V, class Body>
void each_channels(std::size_t channels, const Body& body) {
  std::size_t c = 0;
  for (; c + kLanes<V> <= channels; c += kLanes<V>) {
    body(c, std::integral_constant<std::size_t, kLanes<V>>{});
  }
  if (c < channels) body(c, channels - c);
}

// kPixels neighbours of the output, from column `col` on: a value of x is loaded once for all
// windows that it is in, a weight once for all pixels. Of their columns of x, the first and the
// last one may lie outside the map and count as zeros. The order of the sums is the same whatever
// kPixels.
template <class Maps, std::size_t kStride, std::size_t kPixels>
void depthwise_pixels(const WindowArgs& a, std::size_t row, std::size_t col, std::size_t out) {
  using V = typename Maps::V;
  constexpr std::size_t kColumns = (kPixels - 1) * kStride + 3;
  const std::size_t y = row * kStride, top = y == 0 ? 1 : 0, bottom = y + 1 < a.height ? 3 : 2;
  const bool first = col > 0, last = col * kStride + kColumns - 2 < a.width;
  const std::size_t line = a.width * a.channels;
  // The second column of the first line that is there.
  const auto* middle = Maps::x(a) + (y + top - 1) * line + col * kStride * a.channels;
  each_channels<V>(a.channels, [&](std::size_t c, auto count) {
    V sums[kPixels];
    const V bias = Maps::bias(load_up_to<V>(a.bias + c, count));
#pragma GCC unroll 8
    for (std::size_t p = 0; p < kPixels; ++p) sums[p] = bias;
    const auto* x = middle + c;
    for (std::size_t i = top; i < bottom; ++i, x += line) {
      const float* weights = a.weights + 3 * i * a.channels + c;
      V columns[kColumns];
      columns[0] = first ? Maps::load(x - a.channels, count) : V(0.0f);
#pragma GCC unroll 16
      for (std::size_t j = 1; j + 1 < kColumns; ++j) {
        columns[j] = Maps::load(x + (j - 1) * a.channels, count);
      }
      columns[kColumns - 1] = last ? Maps::load(x + (kColumns - 2) * a.channels, count) : V(0.0f);
#pragma GCC unroll 3
      for (std::size_t j = 0; j < 3; ++j) {
        const V weight = load_up_to<V>(weights + j * a.channels, count);
#pragma GCC unroll 8
        for (std::size_t p = 0; p < kPixels; ++p) {
          sums[p] = multiply_add(columns[p * kStride + j], weight, sums[p]);
        }
      }
    }
#pragma GCC unroll 8
    for (std::size_t p = 0; p < kPixels; ++p) {
      Maps::store(a, Maps::out(a) + out + p * a.channels + c, count, sums[p]);
    }
  });
}

template <class Maps, std::size_t kStride>
void depthwise_lines(const WindowArgs& a) {
  const std::size_t out_width = (a.width + kStride - 1) / kStride;
  for (std::size_t row = a.begin; row < a.end; ++row) {
    for (std::size_t col = 0; col < out_width;) {
      const std::size_t left = out_width - col, to = (row * out_width + col) * a.channels;
      if (left >= 4) {
        depthwise_pixels<Maps, kStride, 4>(a, row, col, to);
        col += 4;
      } else if (left >= 2) {
        depthwise_pixels<Maps, kStride, 2>(a, row, col, to);
        col += 2;
      } else {
        depthwise_pixels<Maps, kStride, 1>(a, row, col, to);
        ++col;
      }
    }
  }
}

template <class Maps>
void depthwise_maps(const WindowArgs& a) {
  return a.stride == 1 ? depthwise_lines<Maps, 1>(a) : depthwise_lines<Maps, 2>(a);
}

template <class I8>
void depthwise3x3(const WindowArgs& args) {
  // A copy: what is stored could be `args` itself for all that the compiler knows.
  const WindowArgs a = args;
  if (a.byte_out == nullptr) return depthwise_maps<FloatMaps<typename I8::V>>(a);
  return a.fixed_x == nullptr ? depthwise_maps<FloatToByte<I8>>(a)
                              : depthwise_maps<FixedToByte<I8>>(a);
}

template <class V>
void max_pool3x3(const WindowArgs& args) {
  const WindowArgs a = args;
  const std::size_t line = a.width * a.channels;
  each_window(a, [&](const Window& w, float* out) {
    each_vector<V>(a.channels, [&](std::size_t c, const auto& load, const auto& store) {
      V largest(-__builtin_inff());
      for (std::size_t i = w.top; i < w.bottom; ++i) {
        const float* x = a.x + w.first + (i - w.top) * line + c;
        for (std::size_t j = w.left; j < w.right; ++j, x += a.channels) {
          const V value = load(x);
          largest = xsimd::select(largest > value, largest, value);
        }
      }
      store(out + c, largest);
    });
  });
}

template <class V>
void mean_rows(const float* x, std::size_t rows, std::size_t cols, float* out) {
  const V count(static_cast<float>(rows));
  // Several sums at a time: each waits for its own last addition.
  constexpr std::size_t kSums = 4;
  std::size_t done = 0;
  for (; done + kSums * kLanes<V> <= cols; done += kSums * kLanes<V>) {
    V sums[kSums] = {V(0.0f), V(0.0f), V(0.0f), V(0.0f)};
    for (std::size_t r = 0; r < rows; ++r) {
      const float* row = x + r * cols + done;
#pragma GCC unroll 4
      for (std::size_t v = 0; v < kSums; ++v)
        sums[v] = sums[v] + load_vector<V>(row + v * kLanes<V>);
    }
#pragma GCC unroll 4
    for (std::size_t v = 0; v < kSums; ++v)
      store_vector(out + done + v * kLanes<V>, divide(sums[v], count));
  }
  each_vector<V>(cols - done, [&](std::size_t i, const auto& load, const auto& store) {
    V sum(0.0f);
    for (std::size_t r = 0; r < rows; ++r) sum = sum + load(x + r * cols + done + i);
    store(out + done + i, divide(sum, count));
  });
}

template <class V>
void add(float* x, const float* y, std::size_t n, Epilogue epilogue) {
  each_vector<V>(n, [&](std::size_t i, const auto& load, const auto& store) {
    store(x + i, activated_fast(epilogue, load(x + i) + load(y + i)));
  });
}

}  // namespace
}  // namespace splitee::kernels
