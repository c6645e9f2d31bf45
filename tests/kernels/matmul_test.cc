#include <algorithm>
#include <numeric>

#include "tests/kernels/matmul_support.h"

namespace splitee::kernels::testing {
namespace {

struct Shape {
  std::size_t m;
  std::size_t n;
  std::size_t k;
};

// Random strides, offsets, bias and epilogue.
void check_shape(const Matmul& matmul, const Arithmetic& arithmetic, const Shape& shape,
                 std::uint32_t seed) {
  CAPTURE(shape.m);
  CAPTURE(shape.n);
  CAPTURE(shape.k);
  CAPTURE(seed);
  Random random(seed);
  const std::size_t offset = random.below(kMaxLanes);
  const auto a = Matrix(shape.m, shape.k, shape.k + random.below(4), offset).fill(random);
  const Weights w = make_weights(arithmetic, shape.n, shape.k, random);
  const auto bias = Matrix(1, shape.n, shape.n, random.below(kMaxLanes)).fill(random);
  const Matrix* used_bias = random.below(4) == 0 ? nullptr : &bias;
  const Epilogue epilogue = random_epilogue(random);
  Matrix c(shape.m, shape.n, shape.n + random.below(4), random.below(kMaxLanes));
  multiply(matmul, a, w, used_bias, c, epilogue, random.below(kMaxLanes));
  CHECK(c.guards_intact());
  CHECK(wrong_elements(arithmetic, a, w, used_bias, c, epilogue) == 0);
}

TEST_CASE("matmul: every number of columns around the panels") {
  for_each_matmul([](const Matmul& matmul, const Arithmetic& arithmetic) {
    for (std::size_t n = 1; n <= 2 * matmul.columns + 3; ++n) {
      check_shape(matmul, arithmetic, {5, n, 19}, static_cast<std::uint32_t>(n));
      check_shape(matmul, arithmetic, {1, n, 19}, static_cast<std::uint32_t>(n));
    }
    check_shape(matmul, arithmetic, {1, 5 * matmul.columns + 3, 70}, 1);
    check_shape(matmul, arithmetic, {1, 9 * matmul.columns, 70}, 2);
  });
}

TEST_CASE("matmul: every number of rows around the tiles") {
  for_each_matmul([](const Matmul& matmul, const Arithmetic& arithmetic) {
    for (std::size_t m = 0; m <= 35; ++m) {
      check_shape(matmul, arithmetic, {m, matmul.columns + 5, 11}, static_cast<std::uint32_t>(m));
    }
  });
}

TEST_CASE("matmul: every small depth, and depths around the blocks") {
  for_each_matmul([](const Matmul& matmul, const Arithmetic& arithmetic) {
    for (std::size_t k = 0; k <= 2 * 64 + 3; ++k) {
      check_shape(matmul, arithmetic, {3, matmul.columns + 1, k}, static_cast<std::uint32_t>(k));
    }
    for (const std::size_t k : {255u, 256u, 257u, 511u, 513u, 1030u, 3072u}) {
      const auto seed = static_cast<std::uint32_t>(k);
      check_shape(matmul, arithmetic, {17, 2 * matmul.columns + 1, k}, seed);
      check_shape(matmul, arithmetic, {1, 6 * matmul.columns + 1, k}, seed);
    }
  });
}

// Column scales mean the same as rows that are multiplied by them, and leave room for small
// columns.
TEST_CASE("matmul: column scales of int8") {
  for_each_target([](const Kernels& kernels) {
    const Matmul& matmul = kernels.i8;
    Random random(11);
    for (const std::size_t k : {1u, 3u, 15u, 16u, 17u, 63u, 64u, 65u, 130u, 200u, 384u}) {
      CAPTURE(k);
      auto a = Matrix(5, k, k + 3).fill(random);
      for (std::size_t i = 0; i < k; ++i) a.at(2, i) = 0.0f;
      a.at(3, k - 1) = kNan;
      a.at(4, 0) = kInfinity;
      const auto scales = Matrix(1, k, k, random.below(kMaxLanes)).fill(random, 0.01f, 20.0f);
      Matrix scaled = a;
      for (std::size_t r = 0; r < a.rows(); ++r) {
        for (std::size_t i = 0; i < k; ++i) scaled.at(r, i) = a.at(r, i) * scales.at(0, i);
      }
      const auto expected = prepare_all(matmul, scaled);
      Bytes found(a.rows() * matmul.prepared_bytes(k));
      matmul.prepare(a.data(), a.stride(), scales.data(), a.rows(), k, found.data());
      CHECK(found.guards_intact());
      CHECK(found.same_bits(*expected));
    }
  });
}

TEST_CASE("matmul: real shapes") {
  for_each_matmul([](const Matmul& matmul, const Arithmetic& arithmetic) {
    check_shape(matmul, arithmetic, {128, 256, 256}, 1);
    check_shape(matmul, arithmetic, {33, 1024, 256}, 2);
    check_shape(matmul, arithmetic, {16, 256, 1024}, 3);
    check_shape(matmul, arithmetic, {1, 768, 768}, 4);
  });
}

TEST_CASE("matmul: any split of the columns gives the same bits") {
  for_each_matmul([](const Matmul& matmul, const Arithmetic& arithmetic) {
    Random random(7);
    const std::size_t step = matmul.columns;
    for (const std::size_t m : {1u, 4u, 31u}) {
      for (const std::size_t panels : {1u, 2u, 7u}) {
        const std::size_t n = panels * step + 3;
        CAPTURE(m);
        CAPTURE(n);
        const auto a = Matrix(m, 300, 300).fill(random);
        const Weights w = make_weights(arithmetic, n, 300, random);
        const auto bias = Matrix(1, n, n).fill(random);
        Matrix whole(m, n, n + 1);
        const auto packed = pack_all(matmul, w);
        const auto prepared = prepare_all(matmul, a);
        MatmulArgs args = product(matmul, a, prepared.get(), *packed, &bias, whole);
        args.epilogue = Epilogue::kGelu;
        matmul.multiply(args);
        for (std::size_t split = 0; split <= panels; ++split) {
          Matrix parts(m, n, n + 1);
          args.c = parts.data();
          for (const auto& [begin, end] :
               {std::pair(split * step, n), std::pair<std::size_t, std::size_t>(0, split * step)}) {
            args.n_begin = begin;
            args.n_end = end;
            matmul.multiply(args);
          }
          CHECK(parts.same_bits(whole));
        }
      }
    }
  });
}

// A map (height, width, channels) and windows of `size` by `size` pixels, `stride` apart: the same
// bits as the product of rows that hold the windows one by one, where they are quantised alike.
void check_windows(const Matmul& matmul, const Arithmetic& arithmetic, std::size_t width,
                   std::size_t channels, std::size_t size, std::size_t stride, std::size_t n) {
  CAPTURE(width);
  CAPTURE(channels);
  CAPTURE(size);
  CAPTURE(stride);
  CAPTURE(n);
  Random random(static_cast<std::uint32_t>(width + channels + n));
  const std::size_t height = size + 3 * stride, line = width * channels;
  const std::size_t across = (width - size) / stride + 1, down = (height - size) / stride + 1;
  const std::size_t k = size * size * channels;
  auto map = Matrix(1, height * line, height * line).fill(random);
  // The largest value of all, in every window: so each row on its own has the scale of the map.
  for (std::size_t i = 0; i < map.cols(); ++i) {
    if (i % channels == 0) map.at(0, i) = 2.0f;
  }
  Matrix rows(down * across, k, k);
  for (std::size_t r = 0; r < rows.rows(); ++r) {
    for (std::size_t i = 0; i < k; ++i) {
      const std::size_t y = r / across * stride + i / (size * channels);
      const std::size_t first = r % across * stride * channels;
      rows.at(r, i) = map.at(0, y * line + first + i % (size * channels));
    }
  }
  const Weights w = make_weights(arithmetic, n, k, random);
  const auto bias = Matrix(1, n, n).fill(random);
  Matrix expected(rows.rows(), n, n), found(rows.rows(), n, n);
  multiply(matmul, rows, w, &bias, expected, Epilogue::kRelu);
  const auto packed = pack_all(matmul, w);
  const auto prepared = prepare_all(matmul, map);
  MatmulArgs args = product(matmul, rows, prepared.get(), *packed, &bias, found);
  args.epilogue = Epilogue::kRelu;
  args.a = prepared == nullptr ? static_cast<const void*>(map.data())
                               : prepared->data() + matmul.head_bytes;
  args.head = prepared == nullptr ? nullptr : prepared->data();
  args.a_stride_bytes = stride * channels * matmul.value_bytes;
  args.line_rows = across;
  args.line_stride_bytes = stride * line * matmul.value_bytes;
  args.parts = size;
  args.part_stride_bytes = line * matmul.value_bytes;
  matmul.multiply(args);
  CHECK(found.guards_intact());
  CHECK(found.same_bits(expected));
}

TEST_CASE("matmul: rows that are windows over a map") {
  for_each_matmul([](const Matmul& matmul, const Arithmetic& arithmetic) {
    for (const std::size_t channels : {4u, 16u, 20u, 300u}) {
      for (const std::size_t stride : {1u, 2u}) {
        check_windows(matmul, arithmetic, 11, channels, 3, stride, matmul.columns + 5);
        check_windows(matmul, arithmetic, 34, channels, 1, stride, 16);
      }
    }
    if (matmul.prepare == nullptr) check_windows(matmul, arithmetic, 13, 3, 7, 2, 33);
  });
}

TEST_CASE("matmul: pixels of a map, up to its end and not beyond, each on its own") {
  for_each_matmul([](const Matmul& matmul, const Arithmetic& arithmetic) {
    if (matmul.prepare == nullptr) return;
    for (const std::size_t k : {4u, 20u, 36u, 68u, 132u, 300u}) {
      CAPTURE(k);
      Random random(static_cast<std::uint32_t>(k));
      const std::size_t m = 5, n = matmul.columns + 5, values = m * k;
      auto map = Matrix(1, values, values).fill(random);
      if (&arithmetic == &kBf16) map.at(0, values - k) = kNan;  // of the last pixel
      const Weights w = make_weights(arithmetic, n, k, random);
      const auto packed = pack_all(matmul, w);
      const auto prepared = prepare_all(matmul, map);
      LastBytes last(values * matmul.value_bytes);
      std::memcpy(last.data(), prepared->data() + matmul.head_bytes, values * matmul.value_bytes);
      Matrix c(m, n, n), expected(m, n, n);
      MatmulArgs args = product(matmul, Matrix(m, k, k), prepared.get(), *packed, nullptr, c);
      args.a = last.data();
      args.head = prepared->data();
      args.a_stride_bytes = k * matmul.value_bytes;
      matmul.multiply(args);
      args.m = 1;
      for (std::size_t r = 0; r < m; ++r) {
        args.c = &expected.at(r, 0);
        matmul.multiply(args);
        args.a = static_cast<const std::byte*>(args.a) + args.a_stride_bytes;
      }
      CHECK(c.same_bits(expected));
      for (std::size_t r = 0; r + 1 < m; ++r) CHECK(std::isfinite(c.at(r, 3)));
    }
  });
}

TEST_CASE("matmul: columns outside the range are left alone") {
  for_each_matmul([](const Matmul& matmul, const Arithmetic& arithmetic) {
    Random random(8);
    const std::size_t step = matmul.columns;
    const std::size_t n = 3 * step + 2;
    const auto a = Matrix(6, 20, 20).fill(random);
    const Weights w = make_weights(arithmetic, n, 20, random);
    const auto packed = pack_all(matmul, w);
    const auto prepared = prepare_all(matmul, a);
    Matrix c(6, n, n);
    MatmulArgs args = product(matmul, a, prepared.get(), *packed, nullptr, c);
    args.n_begin = step;
    args.n_end = step + 5;
    matmul.multiply(args);
    for (std::size_t i = 0; i < n; ++i) {
      const bool inside = i >= step && i < step + 5;
      CHECK((c.at(3, i) != 0.0f) == inside);
    }
  });
}

TEST_CASE("matmul: a row's result does not depend on the rows beside it") {
  for_each_matmul([](const Matmul& matmul, const Arithmetic& arithmetic) {
    Random random(9);
    const std::size_t n = 5 * matmul.columns + 1;
    const auto a = Matrix(29, 300, 300).fill(random);
    const Weights w = make_weights(arithmetic, n, 300, random);
    Matrix all(29, n, n);
    multiply(matmul, a, w, nullptr, all, Epilogue::kGelu);
    for (std::size_t r = 0; r < a.rows(); ++r) {
      Matrix row(1, 300, 300);
      std::copy_n(&a.data()[r * 300], 300, row.data());
      Matrix alone(1, n, n);
      multiply(matmul, row, w, nullptr, alone, Epilogue::kGelu);
      CAPTURE(r);
      CHECK(std::memcmp(alone.data(), all.data() + r * n, n * sizeof(float)) == 0);
    }
  });
}

TEST_CASE("pack_rows: rows in any order and number give the same packed form") {
  for_each_matmul([](const Matmul& matmul, const Arithmetic& arithmetic) {
    for (std::uint32_t seed = 1; seed <= 12; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      const std::size_t n = 1 + random.below(3 * matmul.columns);
      const std::size_t k = 1 + random.below(seed % 3 == 0 ? 300 : 21);
      const Weights w = make_weights(arithmetic, n, k, random);
      const auto expected = pack_all(matmul, w);
      std::vector<std::pair<std::size_t, std::size_t>> pieces;
      for (std::size_t row = 0; row < n;) {
        const std::size_t rows = std::min(n - row, 1 + random.below(9));
        pieces.emplace_back(row, rows);
        row += rows;
      }
      std::shuffle(pieces.begin(), pieces.end(), random.engine());
      Bytes packed(matmul.packed_bytes(n, k), 4 * random.below(kMaxLanes));
      std::memset(packed.data(), 0xff, packed.size());  // none of it is left
      for (const auto& [row, rows] : pieces) {
        matmul.pack_rows(w.stored.data() + row * k * arithmetic.weight_bytes,
                         w.scales.empty() ? nullptr : w.scales.data() + row, row, rows, n, k,
                         packed.data());
      }
      CHECK(packed.guards_intact());
      CHECK(packed.same_bits(*expected));
    }
  });
}

TEST_CASE("prepare: one row is the same alone and with others, and of a multiple of 64 bytes") {
  for_each_matmul([](const Matmul& matmul, const Arithmetic&) {
    if (matmul.prepare == nullptr) return;
    for (const std::size_t k : {1u, 63u, 64u, 200u}) {
      Random random(static_cast<std::uint32_t>(k));
      const auto a = Matrix(5, k, k + 3, 1).fill(random);
      const std::size_t bytes = matmul.prepared_bytes(k);
      CHECK(bytes % 64 == 0);
      const auto all = prepare_all(matmul, a);
      Bytes single(5 * bytes);
      for (std::size_t r = 5; r-- > 0;) {
        matmul.prepare(a.data() + r * a.stride(), a.stride(), nullptr, 1, k,
                       single.data() + r * bytes);
      }
      CHECK(single.same_bits(*all));
    }
  });
}

TEST_CASE("matmul: NaN and infinity in A reach their row only") {
  for_each_matmul([](const Matmul& matmul, const Arithmetic& arithmetic) {
    Random random(10);
    const std::size_t n = matmul.columns + 3;
    for (const float special : {kNan, -kNan, kInfinity, -kInfinity}) {
      for (const std::size_t at : {0u, 17u, 39u}) {
        auto a = Matrix(9, 40, 40).fill(random, 0.5f, 1.0f);
        const Weights w = make_weights(arithmetic, n, 40, random, 0.5f, 1.0f);
        a.at(4, at) = special;
        Matrix c(9, n, n);
        multiply(matmul, a, w, nullptr, c);
        CHECK(wrong_elements(arithmetic, a, w, nullptr, c, Epilogue::kNone) == 0);
      }
    }
  });
}

TEST_CASE("matmul: NaN and infinity in W reach their column only") {
  for_each_matmul([](const Matmul& matmul, const Arithmetic& arithmetic) {
    if (&arithmetic == &kI8) return;
    Random random(11);
    const std::size_t n = matmul.columns + 3;
    for (const float special : {kNan, kInfinity, -kInfinity}) {
      const auto a = Matrix(9, 40, 40).fill(random, 0.5f, 1.0f);
      Weights w = make_weights(arithmetic, n, 40, random, 0.5f, 1.0f);
      set_weight(arithmetic, w, 2, 33, special);
      set_weight(arithmetic, w, n - 1, 5, special);
      Matrix c(9, n, n);
      multiply(matmul, a, w, nullptr, c);
      CHECK(wrong_elements(arithmetic, a, w, nullptr, c, Epilogue::kNone) == 0);
    }
  });
}

// The largest sums there are, where a saturating instruction would give itself away.
TEST_CASE("matmul: int8 extremes") {
  for_each_target([](const Kernels& kernels) {
    Random random(12);
    const std::size_t n = kernels.i8.columns + 3;
    for (const std::size_t k : {1u, 2u, 64u, 999u, 3072u}) {
      for (const float a_value : {-1.0f, 1.0f, 0.0f}) {
        for (const float w_value : {-128.0f, 127.0f, 0.0f}) {
          CAPTURE(k);
          Matrix a(4, k, k);
          Weights w = make_weights(kI8, n, k, random);
          for (std::size_t i = 0; i < k; ++i) {
            for (std::size_t r = 0; r < 4; ++r) {
              a.at(r, i) = a_value != 0.0f ? a_value : random.below(2) == 0 ? -1.0f : 1.0f;
            }
            for (std::size_t r = 0; r < n; ++r) {
              const float extreme = random.below(2) == 0 ? -128.0f : 127.0f;
              set_weight(kI8, w, r, i, w_value != 0.0f ? w_value : extreme);
            }
          }
          Matrix c(4, n, n);
          multiply(kernels.i8, a, w, nullptr, c);
          CHECK(wrong_elements(kI8, a, w, nullptr, c, Epilogue::kNone) == 0);
        }
      }
    }
  });
}

TEST_CASE("matmul: int8 rows of any size, from subnormal to the largest") {
  for_each_target([](const Kernels& kernels) {
    Random random(13);
    const std::size_t k = 77;
    for (const float size : {1e-45f, 1e-38f, 9.9e-31f, 1.01e-30f, 1e-20f, 1e20f, 3.4e38f}) {
      CAPTURE(size);
      auto a = Matrix(3, k, k).fill(random);
      for (std::size_t i = 0; i < k; ++i) a.at(1, i) = i == 40 ? size : a.at(1, i) * size;
      const Weights w = make_weights(kI8, 20, k, random);
      Matrix c(3, 20, 20);
      multiply(kernels.i8, a, w, nullptr, c);
      CHECK(wrong_elements(kI8, a, w, nullptr, c, Epilogue::kNone) == 0);
    }
  });
}

TEST_CASE("matmul: int8 to a fixed map, sizes around the tiles and panels") {
  for_each_target([](const Kernels& kernels) {
    const auto check = [&](std::size_t m, std::size_t n, std::size_t k) {
      CAPTURE(m);
      CAPTURE(n);
      CAPTURE(k);
      Random random(static_cast<std::uint32_t>(m + 100 * n + k));
      auto a = Matrix(m, k, k).fill(random);
      if (m > 4) a.at(4, k - 1) = kNan;
      if (m > 5) a.at(5, 0) = kInfinity;
      const Weights w = make_weights(kI8, n, k, random);
      const auto bias = Matrix(1, n, n).fill(random, -3.0f, 9.0f);
      const std::size_t cut = random.below(n / kernels.i8.columns + 1);
      CHECK(wrong_fixed(kernels.i8, a, w, bias, cut, random.below(kMaxLanes)) == 0);
    };
    for (std::size_t n = 1; n <= 2 * kernels.i8.columns + 3; ++n) {
      check(7, n, 19);
      check(1, n, 20);
    }
    for (std::size_t m = 1; m <= 25; ++m) check(m, kernels.i8.columns + 5, 24);
    check(1, 5 * kernels.i8.columns + 3, 70);
    check(9, kernels.i8.columns + 16, 4096);
  });
}

TEST_CASE("matmul: int8 to a fixed map, values from far below it to far above, halves, overflow") {
  for_each_target([](const Kernels& kernels) {
    const std::size_t n = kernels.i8.columns + 3;
    Random random(15);
    auto a = Matrix(3, 8, 8).fill(random);
    Weights w = make_weights(kI8, n, 8, random);
    for (const float scale : {1e-3f, 1.0f, 1e6f, 1e30f, 3e38f}) {
      CAPTURE(scale);
      for (float& one : w.scales) one = scale;
      const auto bias = Matrix(1, n, n).fill(random, -1.0f, 7.0f);
      CHECK(wrong_fixed(kernels.i8, a, w, bias, 0, 0) == 0);
    }
    // Nothing but the bias: halves between two values.
    for (float& one : w.scales) one = 0.0f;
    Matrix bias(1, n, n);
    for (std::size_t i = 0; i < n; ++i) {
      bias.at(0, i) = (static_cast<float>(4 * i) + 0.5f) / kFixedOfOne;
    }
    CHECK(wrong_fixed(kernels.i8, a, w, bias, 0, 0) == 0);
  });
}

TEST_CASE("matmul: int8 of a byte map") {
  for_each_target([](const Kernels& kernels) {
    Random random(16);
    for (const std::size_t k : {4u, 20u, 64u, 300u, 960u}) {
      for (const std::size_t m : {1u, 3u, 16u, 29u}) {
        CAPTURE(k);
        CAPTURE(m);
        const std::size_t n = kernels.i8.columns + random.below(20);
        Weights w = make_weights(kI8, n, k, random);
        for (std::size_t i = 0; i < k; ++i) {
          set_weight(kI8, w, 0, i, 127.0f);
          set_weight(kI8, w, n - 1, i, -128.0f);
        }
        const auto bias = Matrix(1, n, n).fill(random);
        CHECK(wrong_of_bytes(kernels.i8, m, w, bias, random) == 0);
      }
    }
  });
}

TEST_CASE("matmul: int8 rounds halves to even") {
  for_each_target([](const Kernels& kernels) {
    const std::size_t k = 64;
    Random random(14);
    Matrix a(1, k, k);
    for (std::size_t i = 0; i < k; ++i) a.at(0, i) = static_cast<float>(i) - 31.5f;
    a.at(0, 0) = 127.0f;  // the scale is 1
    Weights w = make_weights(kI8, k, k, random);
    for (std::size_t r = 0; r < k; ++r) {
      w.scales[r] = 1.0f;
      for (std::size_t i = 0; i < k; ++i) set_weight(kI8, w, r, i, i == r ? 1.0f : 0.0f);
    }
    Matrix c(1, k, k);
    multiply(kernels.i8, a, w, nullptr, c);
    for (std::size_t i = 1; i < k; ++i) CHECK(c.at(0, i) == std::nearbyint(a.at(0, i)));
  });
}

}  // namespace
}  // namespace splitee::kernels::testing
