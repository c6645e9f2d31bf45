// Operations on maps of pixels of a target, and what they are to give, from the definitions in
// kernels.h, in double.
#pragma once

#include "tests/kernels/matmul_support.h"

namespace splitee::kernels::testing {

struct MapCase {
  std::size_t height, width, channels, stride;
  Epilogue epilogue = Epilogue::kNone;
  std::size_t offset = 0;  // of the buffers
  std::size_t out_height() const { return (height + stride - 1) / stride; }
  std::size_t out_width() const { return (width + stride - 1) / stride; }
};

// Calls visit(pixel of x, place in the window) for the pixels of the window that x has.
template <class Visit>
void each_of_window(const MapCase& c, std::size_t row, std::size_t col, const Visit& visit) {
  for (std::size_t w = 0; w < 9; ++w) {
    const auto y = static_cast<std::ptrdiff_t>(row * c.stride + w / 3) - 1;
    const auto x = static_cast<std::ptrdiff_t>(col * c.stride + w % 3) - 1;
    const bool inside = y >= 0 && y < static_cast<std::ptrdiff_t>(c.height) && x >= 0 &&
                        x < static_cast<std::ptrdiff_t>(c.width);
    if (inside) {
      visit(static_cast<std::size_t>(y) * c.width + static_cast<std::size_t>(x), w);
    }
  }
}

// Elements that are wrong; one more where a guard was overwritten. The lines are computed in two
// parts that meet at `cut`.
inline std::size_t wrong_windows(const Kernels& kernels, const MapCase& c, bool depthwise,
                                 std::size_t cut, Random& random) {
  const auto x = Matrix(c.height * c.width, c.channels, c.channels, c.offset).fill(random);
  const auto weights = Matrix(9, c.channels, c.channels, c.offset).fill(random);
  const auto bias = Matrix(1, c.channels, c.channels, c.offset).fill(random, -4.0f, 4.0f);
  Matrix out(c.out_height() * c.out_width(), c.channels, c.channels, c.offset);
  WindowArgs args{.x = x.data(),
                  .height = c.height,
                  .width = c.width,
                  .channels = c.channels,
                  .stride = c.stride,
                  .weights = depthwise ? weights.data() : nullptr,
                  .bias = depthwise ? bias.data() : nullptr,
                  .out = out.data(),
                  .begin = 0,
                  .end = cut,
                  .epilogue = depthwise ? c.epilogue : Epilogue::kNone};
  const auto run = depthwise ? kernels.depthwise3x3 : kernels.max_pool3x3;
  run(args);
  args.begin = cut;
  args.end = c.out_height();
  run(args);
  std::size_t wrong = out.guards_intact() ? 0 : 1;
  for (std::size_t pixel = 0; pixel < out.rows(); ++pixel) {
    for (std::size_t i = 0; i < c.channels; ++i) {
      double sum = static_cast<double>(bias.at(0, i)), largest = -HUGE_VAL;
      each_of_window(c, pixel / c.out_width(), pixel % c.out_width(),
                     [&](std::size_t from, std::size_t w) {
                       const double value = static_cast<double>(x.at(from, i));
                       sum += value * static_cast<double>(weights.at(w, i));
                       largest = std::max(largest, value);
                     });
      const double expected = depthwise ? activated(c.epilogue, sum) : largest;
      const double tolerance = depthwise ? 200.0 * kEpsilon : 0.0;
      if (!close(static_cast<double>(out.at(pixel, i)), expected, tolerance)) ++wrong;
    }
  }
  return wrong;
}

// Of a depthwise convolution that writes a byte map, from a fixed map or from floats: bytes that
// are off by more than rounding, as wrong_windows().
inline std::size_t wrong_byte_windows(const Kernels& kernels, const MapCase& c, bool from_fixed,
                                      std::size_t cut, Random& random) {
  const UnitForm form(kernels.i8);
  const std::size_t pixels = c.height * c.width;
  const auto floats = Matrix(pixels, c.channels, c.channels, c.offset).fill(random, -2.0f, 6.0f);
  std::vector<std::uint16_t> fixed(pixels * c.channels);
  for (std::uint16_t& value : fixed) value = static_cast<std::uint16_t>(random.below(65536));
  const auto weights = Matrix(9, c.channels, c.channels, c.offset).fill(random);
  const auto bias = Matrix(1, c.channels, c.channels, c.offset).fill(random, -2.0f, 5.0f);
  Bytes out(c.out_height() * c.out_width() * c.channels, c.offset);
  WindowArgs args{.x = from_fixed ? nullptr : floats.data(),
                  .height = c.height,
                  .width = c.width,
                  .channels = c.channels,
                  .stride = c.stride,
                  .weights = weights.data(),
                  .bias = bias.data(),
                  .out = nullptr,
                  .begin = 0,
                  .end = cut,
                  .epilogue = Epilogue::kRelu6,
                  .fixed_x = from_fixed ? fixed.data() : nullptr,
                  .byte_out = out.data()};
  kernels.depthwise3x3(args);
  args.begin = cut;
  args.end = c.out_height();
  kernels.depthwise3x3(args);
  std::size_t wrong = out.guards_intact() ? 0 : 1;
  for (std::size_t pixel = 0; pixel < c.out_height() * c.out_width(); ++pixel) {
    for (std::size_t i = 0; i < c.channels; ++i) {
      double sum = static_cast<double>(bias.at(0, i));
      each_of_window(
          c, pixel / c.out_width(), pixel % c.out_width(), [&](std::size_t from, std::size_t w) {
            const double value = from_fixed ? fixed[from * c.channels + i] * 6.0 / 65535.0
                                            : static_cast<double>(floats.at(from, i));
            sum += value * static_cast<double>(weights.at(w, i));
          });
      const double expected = activated(Epilogue::kRelu6, sum) * 254.0 / 6.0;
      const int found = form.units(out.data()[pixel * c.channels + i]);
      if (std::fabs(found - expected) > 0.5 + 1e-3) ++wrong;
    }
  }
  return wrong;
}

inline std::size_t wrong_means(const Kernels& kernels, std::size_t rows, std::size_t cols,
                               std::size_t offset, Random& random) {
  const auto x = Matrix(rows, cols, cols, offset).fill(random);
  Matrix out(1, cols, cols, offset);
  kernels.mean_rows(x.data(), rows, cols, out.data());
  std::size_t wrong = out.guards_intact() ? 0 : 1;
  for (std::size_t i = 0; i < cols; ++i) {
    double sum = 0.0;
    for (std::size_t r = 0; r < rows; ++r) sum += static_cast<double>(x.at(r, i));
    const auto count = static_cast<double>(rows);
    if (!close(static_cast<double>(out.at(0, i)), sum / count, kEpsilon * (2.0 + count))) ++wrong;
  }
  return wrong;
}

inline std::size_t wrong_sums(const Kernels& kernels, std::size_t n, Epilogue epilogue,
                              std::size_t offset, Random& random) {
  const auto x = Matrix(1, n, n, offset).fill(random, -8.0f, 8.0f);
  const auto y = Matrix(1, n, n, offset).fill(random, -8.0f, 8.0f);
  Matrix out = x;
  kernels.add(out.data(), y.data(), n, epilogue);
  std::size_t wrong = out.guards_intact() ? 0 : 1;
  for (std::size_t i = 0; i < n; ++i) {
    const double sum = static_cast<double>(x.at(0, i)) + static_cast<double>(y.at(0, i));
    if (!close(static_cast<double>(out.at(0, i)), activated(epilogue, sum), 200.0 * kEpsilon)) {
      ++wrong;
    }
  }
  return wrong;
}

}  // namespace splitee::kernels::testing
