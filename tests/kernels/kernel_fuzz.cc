// Kernels of every target that this CPU has, with random shapes, strides, alignments and values,
// against references from the definitions in kernels.h.
//
// Usage: kernel_fuzz [--seconds N] [--seed S] [--family NAME] [--target NAME]
// Families: matmul_f32, matmul_bf16, matmul_i8, attention, rows, maps, integers (default: all, in
// turn). Targets: each that this CPU has, and avx512amx-model and avx512amx on a model
// (amx_model.h, amx_trap.h; default: all). Prints the seed of a case that is wrong and ends with 1;
// that seed alone repeats it with --seconds 0.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#define DOCTEST_CONFIG_IMPLEMENT
#include "tests/kernels/maps_support.h"

namespace splitee::kernels::testing {
namespace {

// A size: mostly small, sometimes around a multiple of 16, rarely large.
std::size_t any_size(Random& random, std::size_t largest) {
  switch (random.below(4)) {
    case 0:
      return 1 + random.below(8);
    case 1:
      return 1 + random.below(80);
    case 2:
      return std::min(largest, 16 * (1 + random.below(12)) + random.below(3) - 1);
    default:
      return 1 + random.below(largest);
  }
}

// Values of one of several kinds: usual, with outliers, tiny, with zeros, rarely with a NaN.
void fill_any(Random& random, Matrix& m, bool specials) {
  const std::size_t kind = random.below(specials ? 6 : 4);
  const float size = kind == 1 ? 1e-3f : kind == 2 ? 100.0f : 1.0f;
  m.fill(random, -size, size);
  if (m.rows() * m.cols() == 0) return;
  for (std::size_t i = 0; kind == 3 && i < m.rows(); ++i) {
    m.at(i, random.below(m.cols())) = random.uniform(-50.0f, 50.0f);
    m.at(i, random.below(m.cols())) = 0.0f;
  }
  if (kind == 4) m.at(random.below(m.rows()), random.below(m.cols())) = kNan;
  if (kind == 5) m.at(random.below(m.rows()), random.below(m.cols())) = kInfinity;
}

bool matmul_case(const Kernels& kernels, const Arithmetic& arithmetic, Random& random) {
  const Matmul& matmul = kernels.*arithmetic.matmul;
  const std::size_t m = any_size(random, 40), n = any_size(random, 300), k = any_size(random, 1200);
  Matrix a(m, k, k + random.below(20), random.below(kMaxLanes));
  fill_any(random, a, true);
  const Weights w = make_weights(arithmetic, n, k, random);
  const auto bias = Matrix(1, n, n, random.below(kMaxLanes)).fill(random);
  const Matrix* used_bias = random.below(3) == 0 ? nullptr : &bias;
  const Epilogue epilogue = random_epilogue(random);
  Matrix c(m, n, n + random.below(20), random.below(kMaxLanes));
  const auto packed = pack_all(matmul, w, random.below(kMaxLanes));
  const auto prepared = prepare_all(matmul, a, random.below(kMaxLanes));
  MatmulArgs args = product(matmul, a, prepared.get(), *packed, used_bias, c);
  args.epilogue = epilogue;
  const std::size_t panels = n / matmul.columns;
  args.n_end = std::min(n, random.below(panels + 1) * matmul.columns);
  if (args.n_end > 0) matmul.multiply(args);
  args.n_begin = std::exchange(args.n_end, n);
  if (args.n_begin < n) matmul.multiply(args);
  return c.guards_intact() && packed->guards_intact() &&
         (prepared == nullptr || prepared->guards_intact()) &&
         wrong_elements(arithmetic, a, w, used_bias, c, epilogue) == 0;
}

bool all_close(const Matrix& actual, const Matrix& expected, double tolerance) {
  for (std::size_t r = 0; r < actual.rows(); ++r) {
    for (std::size_t i = 0; i < actual.cols(); ++i) {
      const double allowed = tolerance * (1.0 + std::fabs(static_cast<double>(expected.at(r, i))));
      if (!close(static_cast<double>(actual.at(r, i)), static_cast<double>(expected.at(r, i)),
                 allowed)) {
        return false;
      }
    }
  }
  return actual.guards_intact();
}

const Kernels& scalar() {
  return *compiled_targets().back();
}

// Against the scalar target, whose own test compares it with a reference in double.
bool attention_case(const Kernels& kernels, Random& random) {
  const std::size_t q_rows = any_size(random, 40), kv_rows = any_size(random, 160);
  const std::size_t heads = 1 + random.below(4), head_size = any_size(random, 130);
  const std::size_t cols = heads * head_size;
  const auto make = [&](std::size_t rows) {
    return Matrix(rows, cols, cols + random.below(20), random.below(kMaxLanes)).fill(random);
  };
  const Matrix q = make(q_rows), k = make(kv_rows), v = make(kv_rows);
  const std::size_t stride = cols + random.below(20);
  const auto run = [&](const Kernels& target, decltype(Kernels::attention) function) {
    Matrix out(q_rows, cols, stride);
    const std::size_t size = target.attention_scratch(q_rows, kv_rows, head_size);
    Matrix scratch(1, size, size, random.below(kMaxLanes));
    const std::size_t begin = random.below(heads + 1);
    for (const auto& [first, last] :
         {std::pair<std::size_t, std::size_t>(0, begin), {begin, heads}}) {
      function({q.data(), q.stride(), k.data(), k.stride(), v.data(), v.stride(), out.data(),
                stride, q_rows, kv_rows, head_size, first, last, scratch.data()});
    }
    if (!scratch.guards_intact()) std::puts("scratch overrun"), std::exit(1);
    return out;
  };
  const Matrix expected = run(scalar(), scalar().attention);
  // Rounding q and k to bfloat16 moves a score by 2^-8 sqrt(head_size) at most.
  const double rounding = (1.0 + 2.0 * std::sqrt(static_cast<double>(head_size))) / 128.0;
  return all_close(run(kernels, kernels.attention), expected, 1e-4) &&
         all_close(run(kernels, kernels.attention_bf16), expected,
                   kernels.attention_bf16 == kernels.attention ? 1e-4 : rounding);
}

bool rows_case(const Kernels& kernels, Random& random) {
  const std::size_t rows = any_size(random, 20), cols = any_size(random, 900);
  Matrix x(rows, cols, cols + random.below(20), random.below(kMaxLanes));
  x.fill(random, -4.0f, 4.0f);
  const auto residual = Matrix(rows, cols, cols + random.below(9), random.below(9)).fill(random);
  const auto gamma = Matrix(1, cols, cols, random.below(9)).fill(random);
  const auto beta = Matrix(1, cols, cols, random.below(9)).fill(random);
  const bool with_residual = random.below(2) == 0;
  const auto layer_norm = [&](const Kernels& target) {
    Matrix out = x;
    target.layer_norm(x.data(), x.stride(), with_residual ? residual.data() : nullptr,
                      residual.stride(), gamma.data(), beta.data(), 1e-5f, out.data(), out.stride(),
                      rows, cols);
    return out;
  };
  const auto in_place = [&](const std::function<void(Matrix&)>& operation) {
    Matrix out = x;
    operation(out);
    return out;
  };
  const auto softmax = [&](const Kernels& target) {
    return in_place([&](Matrix& m) { target.softmax(m.data(), m.stride(), rows, cols); });
  };
  const auto gelu = [&](const Kernels& target) {
    return in_place([&](Matrix& m) { target.gelu(m.data(), cols); });
  };
  const auto tanh = [&](const Kernels& target) {
    return in_place([&](Matrix& m) { target.tanh(m.data(), cols); });
  };
  // A variance near epsilon makes the layer norm of one or two columns steep.
  return all_close(layer_norm(kernels), layer_norm(scalar()), cols < 4 ? 1e-2 : 1e-4) &&
         all_close(softmax(kernels), softmax(scalar()), 1e-5) &&
         all_close(gelu(kernels), gelu(scalar()), 1e-6) &&
         all_close(tanh(kernels), tanh(scalar()), 1e-6);
}

bool maps_case(const Kernels& kernels, Random& random) {
  MapCase c{1 + random.below(24), 1 + random.below(24), any_size(random, 100), 1 + random.below(2)};
  c.offset = random.below(kMaxLanes);
  c.epilogue = random_epilogue(random);
  const std::size_t cut = random.below(c.out_height() + 1);
  return wrong_windows(kernels, c, true, cut, random) == 0 &&
         wrong_windows(kernels, c, false, cut, random) == 0 &&
         wrong_means(kernels, any_size(random, 60), c.channels, c.offset, random) == 0 &&
         wrong_sums(kernels, c.channels, c.epilogue, c.offset, random) == 0;
}

// Fixed and byte maps: written and read by products and depthwise convolutions.
bool integers_case(const Kernels& kernels, Random& random) {
  const std::size_t m = any_size(random, 40), n = any_size(random, 300);
  const std::size_t k = 4 * any_size(random, 250);
  Matrix a(m, k, k, random.below(kMaxLanes));
  fill_any(random, a, true);
  const Weights w = make_weights(kI8, n, k, random);
  const auto bias = Matrix(1, n, n, random.below(kMaxLanes)).fill(random, -3.0f, 9.0f);
  const std::size_t cut = random.below(n / kernels.i8.columns + 1);
  MapCase c{1 + random.below(24), 1 + random.below(24), any_size(random, 100), 1 + random.below(2)};
  c.offset = random.below(kMaxLanes);
  const std::size_t lines = random.below(c.out_height() + 1);
  return wrong_fixed(kernels.i8, a, w, bias, cut, random.below(kMaxLanes)) == 0 &&
         wrong_of_bytes(kernels.i8, m, w, bias, random) == 0 &&
         wrong_byte_windows(kernels, c, false, lines, random) == 0 &&
         wrong_byte_windows(kernels, c, true, lines, random) == 0;
}

struct Family {
  std::string_view name;
  std::function<bool(const Kernels&, Random&)> run;
};

const std::vector<Family> kFamilies = {
    {"matmul_f32", [](const Kernels& k, Random& r) { return matmul_case(k, kF32, r); }},
    {"matmul_bf16", [](const Kernels& k, Random& r) { return matmul_case(k, kBf16, r); }},
    {"matmul_i8", [](const Kernels& k, Random& r) { return matmul_case(k, kI8, r); }},
    {"attention", attention_case},
    {"rows", rows_case},
    {"maps", maps_case},
    {"integers", integers_case},
};

// The number of cases run; ends the process at the first wrong one.
std::size_t fuzz(const Family& family, std::string_view only, std::uint32_t seed, double seconds) {
  const auto start = std::chrono::steady_clock::now();
  std::size_t cases = 0;
  do {
    for (const Kernels* kernels : tested_targets()) {
      if (!only.empty() && only != kernels->target) continue;
      Random random(seed);
      if (!family.run(*kernels, random)) {
        std::printf("%s: %s is wrong with --seed %u\n", std::string(family.name).c_str(),
                    kernels->target, seed);
        std::exit(1);
      }
      ++cases;
    }
    ++seed;
  } while (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() <
           seconds);
  return cases;
}

int run_families(std::string_view only, std::string_view target, std::uint32_t seed,
                 double seconds) {
  bool known = false;
  for (const Family& family : kFamilies) {
    if (!only.empty() && family.name != only) continue;
    known = true;
    const std::size_t cases = fuzz(family, target, seed, seconds);
    known = known && cases > 0;
    std::printf("%s: %zu cases from seed %u\n", std::string(family.name).c_str(), cases, seed);
  }
  if (!known) std::fputs("unknown family or target\n", stderr);
  return known ? 0 : 2;
}

}  // namespace
}  // namespace splitee::kernels::testing

int main(int argc, char** argv) {
  // The helpers that the tests share check with doctest's macros.
  doctest::Context context;
  context.setAsDefaultForAssertsOutOfTestCases();
  context.setAssertHandler([](const doctest::AssertData& data) {
    if (!data.m_failed) return;
    std::printf("%s:%d: %s\n", data.m_file, data.m_line, data.m_expr);
    std::exit(1);
  });
  double seconds = 1.0;
  std::uint32_t seed = 1;
  std::string family, target;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--seconds") seconds = std::strtod(argv[i + 1], nullptr);
    if (flag == "--seed") seed = static_cast<std::uint32_t>(std::strtoul(argv[i + 1], nullptr, 10));
    if (flag == "--family") family = argv[i + 1];
    if (flag == "--target") target = argv[i + 1];
  }
  return splitee::kernels::testing::run_families(family, target, seed, seconds);
}
