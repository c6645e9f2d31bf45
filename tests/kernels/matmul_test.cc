#include <algorithm>
#include <numeric>

#include "tests/kernels/support.h"

namespace splitee::kernels::testing {
namespace {

std::vector<float> pack_all(const Kernels& kernels, const Matrix& w) {
  std::vector<float> packed(kernels.packed_size(w.rows(), w.cols()), kNan);
  kernels.pack_rows(w.data(), 0, w.rows(), w.rows(), w.cols(), packed.data());
  return packed;
}

void multiply(const Kernels& kernels, const Matrix& a, const Matrix& w, const Matrix* bias,
              Matrix& c) {
  const std::vector<float> packed = pack_all(kernels, w);
  kernels.matmul(a.data(), a.stride(), packed.data(), bias == nullptr ? nullptr : bias->data(),
                 c.data(), c.stride(), a.rows(), w.rows(), w.cols(), 0, w.rows());
}

// Compares C with A W^T + bias in double.
void check_product(const Matrix& a, const Matrix& w, const Matrix* bias, const Matrix& c) {
  REQUIRE(c.guards_intact());
  std::size_t wrong = 0;
  for (std::size_t r = 0; r < a.rows(); ++r) {
    for (std::size_t n = 0; n < w.rows(); ++n) {
      double sum = bias == nullptr ? 0.0 : static_cast<double>(bias->at(0, n));
      double size = std::fabs(sum);
      for (std::size_t i = 0; i < w.cols(); ++i) {
        const double product = static_cast<double>(a.at(r, i)) * static_cast<double>(w.at(n, i));
        sum += product;
        size += std::fabs(product);
      }
      const double roundings = 10.0 + std::sqrt(static_cast<double>(w.cols()));
      if (!close(static_cast<double>(c.at(r, n)), sum, roundings * kEpsilon * size)) ++wrong;
    }
  }
  CHECK(wrong == 0);
}

struct Shape {
  std::size_t m;
  std::size_t n;
  std::size_t k;
};

void check_shape(const Kernels& kernels, const Shape& shape, std::uint32_t seed) {
  CAPTURE(shape.m);
  CAPTURE(shape.n);
  CAPTURE(shape.k);
  CAPTURE(seed);
  Random random(seed);
  const std::size_t offset = random.below(kMaxLanes);
  const auto a = Matrix(shape.m, shape.k, shape.k + random.below(4), offset).fill(random);
  const auto w = Matrix(shape.n, shape.k, shape.k).fill(random);
  const auto bias = Matrix(1, shape.n, shape.n, random.below(kMaxLanes)).fill(random);
  const Matrix* used_bias = random.below(4) == 0 ? nullptr : &bias;
  Matrix c(shape.m, shape.n, shape.n + random.below(4), random.below(kMaxLanes));
  multiply(kernels, a, w, used_bias, c);
  check_product(a, w, used_bias, c);
}

TEST_CASE("matmul: every number of columns around the panels") {
  for_each_target([](const Kernels& kernels) {
    for (std::size_t n = 1; n <= 2 * kernels.matmul_columns + 3; ++n) {
      check_shape(kernels, {5, n, 19}, static_cast<std::uint32_t>(n));
      check_shape(kernels, {1, n, 19}, static_cast<std::uint32_t>(n));
    }
    check_shape(kernels, {1, 5 * kernels.matmul_columns + 3, 70}, 1);
    check_shape(kernels, {1, 9 * kernels.matmul_columns, 70}, 2);
  });
}

TEST_CASE("matmul: every number of rows around the tiles") {
  for_each_target([](const Kernels& kernels) {
    for (std::size_t m = 0; m <= 35; ++m) {
      check_shape(kernels, {m, kernels.matmul_columns + 5, 11}, static_cast<std::uint32_t>(m));
    }
  });
}

TEST_CASE("matmul: every small depth, and depths around the blocks") {
  for_each_target([](const Kernels& kernels) {
    for (std::size_t k = 0; k <= 35; ++k) {
      check_shape(kernels, {3, kernels.matmul_columns + 1, k}, static_cast<std::uint32_t>(k));
    }
    for (const std::size_t k : {255u, 256u, 257u, 511u, 513u, 1030u, 3072u}) {
      check_shape(kernels, {17, 2 * kernels.matmul_columns + 1, k}, static_cast<std::uint32_t>(k));
      check_shape(kernels, {1, 6 * kernels.matmul_columns + 1, k}, static_cast<std::uint32_t>(k));
    }
  });
}

TEST_CASE("matmul: real shapes") {
  for_each_target([](const Kernels& kernels) {
    check_shape(kernels, {128, 256, 256}, 1);
    check_shape(kernels, {33, 1024, 256}, 2);
    check_shape(kernels, {16, 256, 1024}, 3);
    check_shape(kernels, {1, 768, 768}, 4);
  });
}

TEST_CASE("matmul: any split of the columns gives the same bits") {
  for_each_target([](const Kernels& kernels) {
    Random random(7);
    const std::size_t step = kernels.matmul_columns;
    for (const std::size_t m : {1u, 4u, 31u}) {
      for (const std::size_t panels : {1u, 2u, 7u}) {
        const std::size_t n = panels * step + 3;
        const std::size_t k = 300;
        CAPTURE(m);
        CAPTURE(n);
        const auto a = Matrix(m, k, k).fill(random);
        const auto w = Matrix(n, k, k).fill(random);
        const auto bias = Matrix(1, n, n).fill(random);
        Matrix whole(m, n, n + 1);
        multiply(kernels, a, w, &bias, whole);
        const std::vector<float> packed = pack_all(kernels, w);
        for (std::size_t split = 0; split <= panels; ++split) {
          Matrix parts(m, n, n + 1);
          for (const auto& [begin, end] :
               {std::pair(split * step, n), std::pair<std::size_t, std::size_t>(0, split * step)}) {
            kernels.matmul(a.data(), k, packed.data(), bias.data(), parts.data(), n + 1, m, n, k,
                           begin, end);
          }
          CHECK(parts.same_bits(whole));
        }
      }
    }
  });
}

TEST_CASE("matmul: columns outside the range are left alone") {
  for_each_target([](const Kernels& kernels) {
    Random random(8);
    const std::size_t step = kernels.matmul_columns;
    const std::size_t n = 3 * step + 2;
    const auto a = Matrix(6, 20, 20).fill(random);
    const auto w = Matrix(n, 20, 20).fill(random);
    const std::vector<float> packed = pack_all(kernels, w);
    Matrix c(6, n, n);
    kernels.matmul(a.data(), 20, packed.data(), nullptr, c.data(), n, 6, n, 20, step, step + 5);
    for (std::size_t i = 0; i < n; ++i) {
      const bool inside = i >= step && i < step + 5;
      CHECK((c.at(3, i) != 0.0f) == inside);
    }
  });
}

TEST_CASE("matmul: a row's result does not depend on the rows beside it") {
  for_each_target([](const Kernels& kernels) {
    Random random(9);
    const std::size_t n = 5 * kernels.matmul_columns + 1;
    const auto a = Matrix(29, 300, 300).fill(random);
    const auto w = Matrix(n, 300, 300).fill(random);
    Matrix all(29, n, n);
    multiply(kernels, a, w, nullptr, all);
    for (std::size_t r = 0; r < a.rows(); ++r) {
      Matrix row(1, 300, 300);
      std::copy_n(&a.data()[r * 300], 300, row.data());
      Matrix alone(1, n, n);
      multiply(kernels, row, w, nullptr, alone);
      CAPTURE(r);
      CHECK(std::memcmp(alone.data(), all.data() + r * n, n * sizeof(float)) == 0);
    }
  });
}

TEST_CASE("pack_rows: rows in any order and number give the same packed form") {
  for_each_target([](const Kernels& kernels) {
    for (std::uint32_t seed = 1; seed <= 12; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      const std::size_t n = 1 + random.below(3 * kernels.matmul_columns);
      const std::size_t k = 1 + random.below(21);
      const auto w = Matrix(n, k, k, random.below(kMaxLanes)).fill(random);
      const std::vector<float> expected = pack_all(kernels, w);
      std::vector<std::pair<std::size_t, std::size_t>> pieces;
      for (std::size_t row = 0; row < n;) {
        const std::size_t rows = std::min(n - row, 1 + random.below(9));
        pieces.emplace_back(row, rows);
        row += rows;
      }
      std::shuffle(pieces.begin(), pieces.end(), random.engine());
      Matrix packed(1, expected.size(), expected.size());
      for (const auto& [row, rows] : pieces) {
        kernels.pack_rows(w.data() + row * k, row, rows, n, k, packed.data());
      }
      CHECK(packed.guards_intact());
      CHECK(std::memcmp(packed.data(), expected.data(), expected.size() * sizeof(float)) == 0);
    }
  });
}

TEST_CASE("matmul: NaN and infinity reach their row or column only") {
  for_each_target([](const Kernels& kernels) {
    Random random(10);
    const std::size_t n = kernels.matmul_columns + 3;
    for (const float special : {kNan, kInfinity, -kInfinity}) {
      auto a = Matrix(9, 40, 40).fill(random, 0.5f, 1.0f);
      auto w = Matrix(n, 40, 40).fill(random, 0.5f, 1.0f);
      a.at(4, 17) = special;
      w.at(2, 33) = special;
      w.at(n - 1, 5) = special;
      Matrix c(9, n, n);
      multiply(kernels, a, w, nullptr, c);
      check_product(a, w, nullptr, c);
    }
  });
}

}  // namespace
}  // namespace splitee::kernels::testing
