#include "tests/kernels/support.h"

namespace splitee::kernels::testing {
namespace {

// 0 .. twice the widest vector and some, and a few large ones.
std::vector<std::size_t> lengths() {
  std::vector<std::size_t> all;
  for (std::size_t n = 0; n <= 2 * kMaxLanes + 3; ++n) all.push_back(n);
  for (const std::size_t n : {64u, 128u, 200u, 512u, 768u, 3071u}) all.push_back(n);
  return all;
}

void check_softmax(const Matrix& in, const Matrix& out) {
  CHECK(out.guards_intact());
  for (std::size_t r = 0; r < in.rows(); ++r) {
    double largest = -std::numeric_limits<double>::infinity();
    double sum = 0.0;
    bool nan = false;
    for (std::size_t i = 0; i < in.cols(); ++i) {
      const double x = static_cast<double>(in.at(r, i));
      nan = nan || std::isnan(x);
      largest = std::max(largest, x);
    }
    for (std::size_t i = 0; i < in.cols(); ++i) {
      sum += std::exp(static_cast<double>(in.at(r, i)) - largest);
    }
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < in.cols(); ++i) {
      const double x = std::exp(static_cast<double>(in.at(r, i)) - largest) / sum;
      const double expected = nan ? std::nan("") : x;
      // Relative, down to where floats lose their precision.
      const double allowed = 100.0 * kEpsilon * x + 1e-37;
      if (!close(static_cast<double>(out.at(r, i)), expected, allowed)) ++wrong;
    }
    CAPTURE(r);
    CHECK(wrong == 0);
  }
}

TEST_CASE("softmax: every length") {
  for_each_target([](const Kernels& kernels) {
    for (const std::size_t cols : lengths()) {
      CAPTURE(cols);
      Random random(static_cast<std::uint32_t>(cols));
      CAPTURE(random.seed());
      for (const float size : {1.0f, 60.0f}) {
        const auto in = Matrix(3, cols, cols + 1 + random.below(4), random.below(kMaxLanes))
                            .fill(random, -size, size);
        Matrix out = in;
        kernels.softmax(out.data(), out.stride(), out.rows(), out.cols());
        check_softmax(in, out);
      }
    }
  });
}

TEST_CASE("softmax: special values, each in its own row") {
  for_each_target([](const Kernels& kernels) {
    for (const std::size_t cols : {1u, 5u, 16u, 37u}) {
      CAPTURE(cols);
      Random random(3);
      auto in = Matrix(9, cols, cols).fill(random);
      in.at(1, cols - 1) = kNan;
      in.at(2, 0) = kNan;
      in.at(3, cols / 2) = -kInfinity;
      in.at(4, cols / 2) = kInfinity;
      in.at(5, cols / 2) = 1e38f;
      in.at(6, cols / 2) = -1e38f;
      for (std::size_t i = 0; i < cols; ++i) in.at(7, i) = -kInfinity;
      for (std::size_t i = 0; i < cols; ++i) in.at(8, i) = 88.0f;
      Matrix out = in;
      kernels.softmax(out.data(), out.stride(), out.rows(), out.cols());
      check_softmax(in, out);
      if (cols > 1) CHECK(out.at(3, cols / 2) == 0.0f);
    }
  });
}

struct Norm {
  Matrix x;
  Matrix residual;
  Matrix gamma;
  Matrix beta;
};

Norm make_norm(std::size_t cols, Random& random, float mean) {
  const auto make = [&](std::size_t rows, float low, float high) {
    return Matrix(rows, cols, cols + 1 + random.below(4), random.below(kMaxLanes))
        .fill(random, low, high);
  };
  Matrix x = make(3, mean - 2.0f, mean + 2.0f);
  Matrix residual = make(3, -2.0f, 2.0f);
  Matrix gamma = make(1, 0.5f, 2.0f);
  return {std::move(x), std::move(residual), std::move(gamma), make(1, -1.0f, 1.0f)};
}

constexpr float kNormEpsilon = 1e-5f;

void check_norm(const Norm& norm, bool with_residual, const Matrix& out, double size) {
  CHECK(out.guards_intact());
  const std::size_t cols = norm.x.cols();
  const double count = static_cast<double>(cols);
  std::size_t wrong = 0;
  for (std::size_t r = 0; r < norm.x.rows(); ++r) {
    std::vector<double> sums(cols);
    double mean = 0.0;
    double variance = 0.0;
    for (std::size_t i = 0; i < cols; ++i) {
      const float residual = with_residual ? norm.residual.at(r, i) : 0.0f;
      sums[i] = static_cast<double>(norm.x.at(r, i) + residual);
      mean += sums[i] / count;
    }
    for (const double sum : sums) variance += (sum - mean) * (sum - mean) / count;
    const double scale = 1.0 / std::sqrt(variance + static_cast<double>(kNormEpsilon));
    for (std::size_t i = 0; i < cols; ++i) {
      const double gamma = static_cast<double>(norm.gamma.at(0, i));
      const double normal = (sums[i] - mean) * scale;
      const double expected = normal * gamma + static_cast<double>(norm.beta.at(0, i));
      // The mean is off by about eps * size, or its share of a long sum.
      const double allowed = kEpsilon * (gamma * scale * size * (4.0 + std::sqrt(count)) +
                                         20.0 * (1.0 + std::fabs(normal * gamma)));
      if (!close(static_cast<double>(out.at(r, i)), expected, allowed)) ++wrong;
    }
  }
  CHECK(wrong == 0);
}

void run_norm(const Kernels& kernels, const Norm& norm, bool with_residual, Matrix& out) {
  kernels.layer_norm(norm.x.data(), norm.x.stride(), with_residual ? norm.residual.data() : nullptr,
                     norm.residual.stride(), norm.gamma.data(), norm.beta.data(), kNormEpsilon,
                     out.data(), out.stride(), norm.x.rows(), norm.x.cols());
}

TEST_CASE("layer_norm: every length, with and without a residual, in place and not") {
  for_each_target([](const Kernels& kernels) {
    for (const std::size_t cols : lengths()) {
      CAPTURE(cols);
      Random random(static_cast<std::uint32_t>(cols) + 100);
      CAPTURE(random.seed());
      const Norm norm = make_norm(cols, random, 0.0f);
      for (const bool with_residual : {false, true}) {
        CAPTURE(with_residual);
        Matrix out(3, cols, cols + 2, random.below(kMaxLanes));
        run_norm(kernels, norm, with_residual, out);
        check_norm(norm, with_residual, out, 4.0);

        Norm in_place = norm;
        kernels.layer_norm(in_place.x.data(), in_place.x.stride(),
                           with_residual ? norm.residual.data() : nullptr, norm.residual.stride(),
                           norm.gamma.data(), norm.beta.data(), kNormEpsilon, in_place.x.data(),
                           in_place.x.stride(), 3, cols);
        check_norm(norm, with_residual, in_place.x, 4.0);
      }
    }
  });
}

TEST_CASE("layer_norm: the variance is exact far from zero") {
  for_each_target([](const Kernels& kernels) {
    Random random(5);
    const Norm norm = make_norm(768, random, 5000.0f);
    Matrix out(3, 768, 768);
    run_norm(kernels, norm, false, out);
    check_norm(norm, false, out, 5000.0);
  });
}

TEST_CASE("layer_norm: a constant row becomes beta") {
  for_each_target([](const Kernels& kernels) {
    Random random(6);
    Norm norm = make_norm(36, random, 0.0f);
    for (std::size_t i = 0; i < 36; ++i) norm.x.at(1, i) = 0.5f;
    Matrix out(3, 36, 36);
    run_norm(kernels, norm, false, out);
    for (std::size_t i = 0; i < 36; ++i) CHECK(out.at(1, i) == norm.beta.at(0, i));
  });
}

TEST_CASE("layer_norm: NaN and infinity make their row NaN, and no other") {
  for_each_target([](const Kernels& kernels) {
    for (const float special : {kNan, kInfinity, -kInfinity}) {
      for (const std::size_t where : {0u, 35u}) {
        Random random(7);
        Norm norm = make_norm(36, random, 0.0f);
        norm.x.at(1, where) = special;
        Matrix out(3, 36, 36);
        run_norm(kernels, norm, true, out);
        check_norm(norm, true, out, 4.0);
      }
    }
  });
}

TEST_CASE("embed: the exact sum of three rows") {
  for_each_target([](const Kernels& kernels) {
    for (const std::size_t cols : lengths()) {
      CAPTURE(cols);
      Random random(static_cast<std::uint32_t>(cols) + 200);
      const auto word = Matrix(50, cols, cols, random.below(kMaxLanes)).fill(random);
      const auto position = Matrix(9, cols, cols, random.below(kMaxLanes)).fill(random);
      const auto type = Matrix(2, cols, cols, random.below(kMaxLanes)).fill(random);
      const std::vector<std::int32_t> ids = {0, 49, 7, 7, 1, 30, 22};
      const std::vector<std::int32_t> types = {0, 0, 1, 0, 1, 1, 1};
      Matrix out(ids.size(), cols, cols, random.below(kMaxLanes));
      kernels.embed(ids.data(), types.data(), word.data(), position.data(), type.data(), out.data(),
                    ids.size(), cols);
      CHECK(out.guards_intact());
      std::size_t wrong = 0;
      for (std::size_t r = 0; r < ids.size(); ++r) {
        for (std::size_t i = 0; i < cols; ++i) {
          const float expected = word.at(static_cast<std::size_t>(ids[r]), i) + position.at(r, i) +
                                 type.at(static_cast<std::size_t>(types[r]), i);
          if (out.at(r, i) != expected) ++wrong;
        }
      }
      CHECK(wrong == 0);
    }
  });
}

}  // namespace
}  // namespace splitee::kernels::testing
