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
  const float* first;                    // pixel that window (top, left) falls on
};
inline Window window_at(const WindowArgs& a, std::size_t row, std::size_t col) {
  const std::size_t y = row * a.stride, x = col * a.stride;  // of its middle
  const std::size_t top = y == 0 ? 1 : 0, left = x == 0 ? 1 : 0;
  return {top, y + 1 < a.height ? 3u : 2u, left, x + 1 < a.width ? 3u : 2u,
          a.x + ((y + top - 1) * a.width + x + left - 1) * a.channels};
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

// kPixels neighbours of the output, all of whose columns lie within the map: a value of x is loaded
// once for all windows that it is in, a weight once for all pixels. The order of the sums is that
// of the window alone, whatever kPixels.
template <class V, std::size_t kStride, std::size_t kPixels>
void depthwise_pixels(const WindowArgs& a, const Window& w, float* out) {
  constexpr std::size_t kColumns = (kPixels - 1) * kStride + 3;
  const std::size_t line = a.width * a.channels;
  each_vector<V>(a.channels, [&](std::size_t c, const auto& load, const auto& store) {
    V sums[kPixels];
#pragma GCC unroll 8
    for (std::size_t p = 0; p < kPixels; ++p) sums[p] = load(a.bias + c);
    for (std::size_t i = w.top; i < w.bottom; ++i) {
      const float* x = w.first + (i - w.top) * line + c;
      const float* weights = a.weights + 3 * i * a.channels + c;
      V columns[kColumns];
#pragma GCC unroll 16
      for (std::size_t j = 0; j < kColumns; ++j) columns[j] = load(x + j * a.channels);
#pragma GCC unroll 3
      for (std::size_t j = 0; j < 3; ++j) {
        const V weight = load(weights + j * a.channels);
#pragma GCC unroll 8
        for (std::size_t p = 0; p < kPixels; ++p) {
          sums[p] = multiply_add(columns[p * kStride + j], weight, sums[p]);
        }
      }
    }
#pragma GCC unroll 8
    for (std::size_t p = 0; p < kPixels; ++p) {
      store(out + p * a.channels + c, activated_fast(a.epilogue, sums[p]));
    }
  });
}

// A pixel at the map's left or right edge.
template <class V>
void depthwise_edge(const WindowArgs& a, const Window& w, float* out) {
  const std::size_t line = a.width * a.channels;
  each_vector<V>(a.channels, [&](std::size_t c, const auto& load, const auto& store) {
    V sum = load(a.bias + c);
    for (std::size_t i = w.top; i < w.bottom; ++i) {
      const float* x = w.first + (i - w.top) * line + c;
      const float* weights = a.weights + (3 * i + w.left) * a.channels + c;
      for (std::size_t j = w.left; j < w.right; ++j) {
        sum = multiply_add(load(x), load(weights), sum);
        x += a.channels;
        weights += a.channels;
      }
    }
    store(out + c, activated_fast(a.epilogue, sum));
  });
}

template <class V, std::size_t kStride>
void depthwise_lines(const WindowArgs& a) {
  constexpr std::size_t kPixels = 4;
  const std::size_t out_width = (a.width + kStride - 1) / kStride;
  // Of the columns of the output, [1, inner_end) have all of their windows' columns within the map.
  const std::size_t inner_end = a.width < 3 ? 1 : (a.width - 2) / kStride + 1;
  for (std::size_t row = a.begin; row < a.end; ++row) {
    float* out = a.out + row * out_width * a.channels;
    for (std::size_t col = 0; col < out_width;) {
      const Window window = window_at(a, row, col);
      float* to = out + col * a.channels;
      if (col == 0 || col >= inner_end) {
        depthwise_edge<V>(a, window, to);
        ++col;
      } else if (inner_end - col >= kPixels) {
        depthwise_pixels<V, kStride, kPixels>(a, window, to);
        col += kPixels;
      } else {
        depthwise_pixels<V, kStride, 1>(a, window, to);
        ++col;
      }
    }
  }
}

template <class V>
void depthwise3x3(const WindowArgs& args) {
  // A copy: what is stored could be `args` itself for all that the compiler knows.
  const WindowArgs a = args;
  return a.stride == 1 ? depthwise_lines<V, 1>(a) : depthwise_lines<V, 2>(a);
}

template <class V>
void max_pool3x3(const WindowArgs& args) {
  const WindowArgs a = args;
  const std::size_t line = a.width * a.channels;
  each_window(a, [&](const Window& w, float* out) {
    each_vector<V>(a.channels, [&](std::size_t c, const auto& load, const auto& store) {
      V largest(-__builtin_inff());
      for (std::size_t i = w.top; i < w.bottom; ++i) {
        const float* x = w.first + (i - w.top) * line + c;
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
      store_vector(out + done + v * kLanes<V>, sums[v] / count);
  }
  each_vector<V>(cols - done, [&](std::size_t i, const auto& load, const auto& store) {
    V sum(0.0f);
    for (std::size_t r = 0; r < rows; ++r) sum = sum + load(x + r * cols + done + i);
    store(out + done + i, sum / count);
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
