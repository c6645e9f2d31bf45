// Operations on maps of pixels: every target against references from the definitions.
#include "tests/kernels/maps_support.h"

namespace splitee::kernels::testing {
namespace {

constexpr Epilogue kEpilogues[] = {Epilogue::kNone, Epilogue::kGelu,  Epilogue::kRelu,
                                   Epilogue::kSilu, Epilogue::kRelu6, Epilogue::kHardSwish};

template <class Test>
void for_each_map(const Test& test) {
  for_each_target([&](const Kernels& kernels) {
    for (const std::size_t stride : {1, 2}) {
      for (const std::pair<std::size_t, std::size_t> size :
           {std::pair(1, 1), {1, 2}, {2, 1}, {3, 3}, {4, 5}, {7, 6}, {8, 8}}) {
        for (std::size_t channels = 1; channels <= 2 * kMaxLanes + 3; channels += 3) {
          MapCase c{size.first, size.second, channels, stride};
          c.offset = channels % 5;
          c.epilogue = kEpilogues[(channels + stride) % std::size(kEpilogues)];
          CAPTURE(c.height);
          CAPTURE(c.width);
          CAPTURE(channels);
          CAPTURE(stride);
          Random random(static_cast<std::uint32_t>(100 * channels + c.height));
          test(kernels, c, random);
        }
      }
    }
  });
}

TEST_CASE("depthwise3x3: sizes, strides, channels, in two parts") {
  for_each_map([](const Kernels& kernels, const MapCase& c, Random& random) {
    CHECK(wrong_windows(kernels, c, true, random.below(c.out_height() + 1), random) == 0);
  });
}

TEST_CASE("depthwise3x3 to a byte map, from floats and from a fixed map") {
  for_each_map([](const Kernels& kernels, const MapCase& c, Random& random) {
    for (const bool from_fixed : {false, true}) {
      CAPTURE(from_fixed);
      const std::size_t cut = random.below(c.out_height() + 1);
      CHECK(wrong_byte_windows(kernels, c, from_fixed, cut, random) == 0);
    }
  });
}

// 8 channels, one pixel, a window of ones: the bias, in units and halves, and beyond both ends.
TEST_CASE("depthwise3x3 to a byte map: ends, halves to even, NaN as 0") {
  for_each_target([](const Kernels& kernels) {
    const float unit = 6.0f / kByteSteps;
    const std::vector<float> bias = {-1.0f,     0.0f,       6.0f, 7.0f,     3e38f,     -3e38f,
                                     kInfinity, -kInfinity, kNan, 3 * unit, 200 * unit};
    const std::vector<int> expected = {0, 0, 254, 254, 254, 0, 254, 0, 0, 3, 200};
    const std::size_t n = bias.size();
    const UnitForm form(kernels.i8);
    const std::vector<float> x(n, 0.0f), weights(9 * n, 1.0f);
    const std::vector<std::uint16_t> fixed(n, 0);
    for (const bool from_fixed : {false, true}) {
      std::vector<std::byte> out(n);
      kernels.depthwise3x3({.x = x.data(),
                            .height = 1,
                            .width = 1,
                            .channels = n,
                            .stride = 1,
                            .weights = weights.data(),
                            .bias = bias.data(),
                            .out = nullptr,
                            .begin = 0,
                            .end = 1,
                            .epilogue = Epilogue::kRelu6,
                            .fixed_x = from_fixed ? fixed.data() : nullptr,
                            .byte_out = out.data()});
      for (std::size_t i = 0; i < n; ++i) {
        CAPTURE(bias[i]);
        CHECK(form.units(out[i]) == expected[i]);
      }
    }
  });
}

TEST_CASE("max_pool3x3: sizes, strides, channels, in two parts") {
  for_each_map([](const Kernels& kernels, const MapCase& c, Random& random) {
    CHECK(wrong_windows(kernels, c, false, random.below(c.out_height() + 1), random) == 0);
  });
}

TEST_CASE("mean_rows and add: every length") {
  for_each_target([](const Kernels& kernels) {
    for (std::size_t n = 1; n <= 5 * kMaxLanes + 3; ++n) {
      Random random(static_cast<std::uint32_t>(n));
      CAPTURE(n);
      for (const std::size_t rows : {1, 4, 49}) {
        CHECK(wrong_means(kernels, rows, n, n % 7, random) == 0);
      }
      for (const Epilogue epilogue : kEpilogues) {
        CHECK(wrong_sums(kernels, n, epilogue, n % 7, random) == 0);
      }
    }
  });
}

TEST_CASE("add with an epilogue: special values as the scalar one has them") {
  const Kernels& scalar = *compiled_targets().back();
  const std::vector<float> values = {kNan,  kInfinity, -kInfinity, 0.0f, -0.0f,
                                     3e38f, -3e38f,    6.0f,       -3.0f};
  for_each_target([&](const Kernels& kernels) {
    for (const Epilogue epilogue : {Epilogue::kRelu, Epilogue::kRelu6, Epilogue::kHardSwish}) {
      for (const std::size_t n : {2 * kMaxLanes, values.size()}) {
        const std::vector<float> zeros(n, -0.0f);
        std::vector<float> out(n);
        for (std::size_t i = 0; i < n; ++i) out[i] = values[i % values.size()];
        std::vector<float> expected = out;
        kernels.add(out.data(), zeros.data(), n, epilogue);
        scalar.add(expected.data(), zeros.data(), n, epilogue);
        for (std::size_t i = 0; i < n; ++i) {
          CAPTURE(values[i % values.size()]);
          CHECK(close(static_cast<double>(out[i]), static_cast<double>(expected[i]), 0.0));
        }
      }
    }
  });
}

}  // namespace
}  // namespace splitee::kernels::testing
