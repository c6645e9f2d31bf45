#include "tests/kernels/support.h"

namespace splitee::kernels::testing {
namespace {

using Operation = void (*)(float*, std::size_t);

double gelu_reference(double x) {
  return x * 0.5 * (1.0 + std::erf(x * std::sqrt(0.5)));
}
double gelu_tolerance(double x) {
  return 1e-6 * std::max(1.0, std::fabs(x));
}

double gelu_tanh_reference(double x) {
  constexpr double kPi = 3.14159265358979323846;
  return x * 0.5 * (1.0 + std::tanh(std::sqrt(2.0 / kPi) * (x + 0.044715 * x * x * x)));
}

double relu_reference(double x) {
  return x > 0.0 ? x : 0.0;
}
double relu_tolerance(double) {
  return 0.0;
}

double silu_reference(double x) {
  return x / (1.0 + std::exp(-x));
}

double tanh_reference(double x) {
  return std::tanh(x);
}
double tanh_tolerance(double x) {
  return 100.0 * kEpsilon * std::fabs(std::tanh(x)) + 1e-40;
}

void check(const Matrix& in, const Matrix& out, double (*reference)(double),
           double (*tolerance)(double)) {
  CHECK(out.guards_intact());
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < in.cols(); ++i) {
    const double x = static_cast<double>(in.at(0, i));
    if (!close(static_cast<double>(out.at(0, i)), reference(x), tolerance(x))) {
      if (wrong++ == 0) FAIL_CHECK("x = " << x << ": " << out.at(0, i) << ", not " << reference(x));
    }
  }
}

void check_operation(Operation operation, double (*reference)(double),
                     double (*tolerance)(double)) {
  for (std::size_t n = 0; n <= 2 * kMaxLanes + 3; ++n) {
    for (std::size_t offset = 0; offset < 5; ++offset) {
      Random random(static_cast<std::uint32_t>(n));
      CAPTURE(random.seed());
      const auto in = Matrix(1, n, n + 1, offset).fill(random, -4.0f, 4.0f);
      Matrix out = in;
      operation(out.data(), n);
      check(in, out, reference, tolerance);
    }
  }
  // A dense line over everything of interest, then the whole range of floats, both signs.
  const std::size_t steps = 40001;
  Matrix line(1, steps, steps);
  for (std::size_t i = 0; i < steps; ++i) {
    line.at(0, i) = -12.0f + 24.0f * static_cast<float>(i) / static_cast<float>(steps - 1);
  }
  Matrix out = line;
  operation(out.data(), steps);
  check(line, out, reference, tolerance);

  Matrix range(1, 500, 500);
  for (std::size_t i = 0; i < 250; ++i) {
    range.at(0, 2 * i) = std::ldexp(1.37f, static_cast<int>(i) - 125);
    range.at(0, 2 * i + 1) = -range.at(0, 2 * i);
  }
  Matrix out_range = range;
  operation(out_range.data(), 500);
  check(range, out_range, reference, tolerance);
}

TEST_CASE("gelu: every length, and a line of values") {
  for_each_target([](const Kernels& kernels) {
    check_operation(kernels.gelu, gelu_reference, gelu_tolerance);
  });
}

TEST_CASE("gelu_tanh, relu, silu: every length, and a line of values") {
  for_each_target([](const Kernels& kernels) {
    check_operation(kernels.gelu_tanh, gelu_tanh_reference, gelu_tolerance);
    check_operation(kernels.relu, relu_reference, relu_tolerance);
    check_operation(kernels.silu, silu_reference, gelu_tolerance);
  });
}

TEST_CASE("tanh: every length, and a line of values") {
  for_each_target([](const Kernels& kernels) {
    check_operation(kernels.tanh, tanh_reference, tanh_tolerance);
  });
}

TEST_CASE("activations and tanh: special values as the scalar ones have them") {
  const Kernels& scalar = *compiled_targets().back();
  const std::vector<float> values = {kNan,   kInfinity, -kInfinity, 0.0f,  -0.0f,
                                     1e-42f, -1e-42f,   3e38f,      -3e38f};
  for_each_target([&](const Kernels& kernels) {
    // In the body of a vector and in the part behind the last whole one.
    for (const std::size_t n : {2 * kMaxLanes, values.size()}) {
      for (const auto& [actual, expected] : {std::pair(kernels.gelu, scalar.gelu),
                                             {kernels.gelu_tanh, scalar.gelu_tanh},
                                             {kernels.relu, scalar.relu},
                                             {kernels.silu, scalar.silu},
                                             {kernels.tanh, scalar.tanh}}) {
        std::vector<float> out(n);
        for (std::size_t i = 0; i < n; ++i) out[i] = values[i % values.size()];
        std::vector<float> reference = out;
        actual(out.data(), n);
        expected(reference.data(), n);
        for (std::size_t i = 0; i < n; ++i) {
          CAPTURE(values[i % values.size()]);
          CHECK(close(static_cast<double>(out[i]), static_cast<double>(reference[i]), 1e-40));
          // Of max(-0, 0) either sign is right: NEON has 0, x86 the second operand.
          if (std::isnan(reference[i]) || (actual == kernels.relu && reference[i] == 0.0f))
            continue;
          CHECK(std::signbit(out[i]) == std::signbit(reference[i]));
        }
      }
    }
  });
}

}  // namespace
}  // namespace splitee::kernels::testing
