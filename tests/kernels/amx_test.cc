// The model of AMX's instructions by the manual, and what the kernels on top of it do to a thread.
#include <array>
#include <csignal>
#include <numeric>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

#include "tests/kernels/matmul_support.h"

namespace splitee::kernels::testing {
namespace {

struct Config {
  std::array<std::uint8_t, 64> bytes = {1};
  Config& tile(std::size_t number, std::size_t rows, std::size_t row_bytes) {
    bytes[16 + 2 * number] = static_cast<std::uint8_t>(row_bytes & 0xff);
    bytes[17 + 2 * number] = static_cast<std::uint8_t>(row_bytes >> 8);
    bytes[48 + number] = static_cast<std::uint8_t>(rows);
    return *this;
  }
  void load() const { amx::load_config(bytes.data()); }
};

// In a process of its own.
template <class Body>
bool aborts(const Body& body) {
  const pid_t child = fork();
  if (child == 0) {
    ::close(STDERR_FILENO);
    signal(SIGABRT, SIG_DFL);
    body();
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

// 2 rows by 3 columns, 2 cells deep.
Config small_config() {
  return Config().tile(0, 2, 12).tile(1, 2, 8).tile(2, 2, 12);
}

TEST_CASE("amx model: configurations that fault") {
  CHECK(!aborts([] { small_config().load(); }));
  CHECK(!aborts([] { Config().tile(7, 16, 64).load(); }));
  struct Change {
    std::size_t byte;
    std::uint8_t value;
  };
  for (const Change& change : {Change{0, 2}, {1, 1}, {2, 1}, {15, 1}, {32, 1}, {47, 1}, {56, 1}}) {
    CAPTURE(change.byte);
    CHECK(aborts([&] {
      Config config = small_config();
      config.bytes[change.byte] = change.value;
      config.load();
    }));
  }
  CHECK(aborts([] { Config().tile(3, 17, 64).load(); }));
  CHECK(aborts([] { Config().tile(3, 16, 65).load(); }));
  CHECK(aborts([] { Config().tile(3, 16, 256).load(); }));
  CHECK(aborts([] { Config().tile(3, 16, 0).load(); }));
  CHECK(aborts([] { Config().tile(3, 0, 64).load(); }));
}

TEST_CASE("amx model: tiles that are not there") {
  CHECK(!amx::configured());
  CHECK(aborts([] { amx::zero(0); }));
  small_config().load();
  CHECK(amx::configured());
  CHECK(!aborts([] { amx::zero(2); }));
  CHECK(aborts([] { amx::zero(3); }));
  CHECK(aborts([] { amx::zero(8); }));
  amx::release();
  CHECK(!amx::configured());
  CHECK(aborts([] { amx::zero(0); }));
}

TEST_CASE("amx model: products of tiles that do not fit each other") {
  const auto faults = [](const Config& config, std::size_t left = 1, std::size_t right = 2) {
    const bool int8 = aborts([&] { config.load(), amx::add_int8(0, left, right); });
    const bool bf16 = aborts([&] { config.load(), amx::add_bf16(0, left, right); });
    CHECK(int8 == bf16);
    return int8;
  };
  CHECK(!faults(small_config()));
  CHECK(faults(small_config().tile(0, 3, 12)));  // rows of the sums
  CHECK(faults(small_config().tile(0, 2, 16)));  // columns
  CHECK(faults(small_config().tile(1, 2, 12)));  // depth
  CHECK(faults(small_config().tile(2, 3, 12)));
  CHECK(faults(small_config().tile(0, 2, 10).tile(2, 2, 10)));  // not of cells
  CHECK(faults(small_config().tile(1, 2, 10)));
  const Config square = Config().tile(0, 4, 16).tile(1, 4, 16).tile(2, 4, 16);
  CHECK(!faults(square));
  CHECK(faults(square, 0, 2));
  CHECK(faults(square, 1, 1));
  CHECK(faults(square, 1, 0));
}

TEST_CASE("amx model: loads and stores take rows of the configuration, by a stride") {
  std::array<std::uint8_t, 4 * 20> memory{};
  std::iota(memory.begin(), memory.end(), std::uint8_t{1});
  small_config().load();
  amx::load(0, memory.data(), 20);
  std::array<std::uint8_t, 4 * 16> to{};
  amx::store(0, to.data(), 16);
  for (std::size_t i = 0; i < to.size(); ++i) {
    const bool inside = i / 16 < 2 && i % 16 < 12;
    CHECK(to[i] == (inside ? 1 + i / 16 * 20 + i % 16 : 0));
  }
  amx::zero(0);
  amx::store(0, to.data(), 12);
  CHECK(std::count(to.begin(), to.begin() + 24, 0) == 24);
  // A configuration empties the tiles.
  amx::load(0, memory.data(), 20);
  small_config().load();
  amx::store(0, to.data(), 12);
  CHECK(std::count(to.begin(), to.begin() + 24, 0) == 24);
  amx::release();
}

TEST_CASE("amx model: int8, signed by signed, without saturation") {
  const std::array<std::int8_t, 2 * 8> a = {1,  2,  3,    4,    5,    6,    7,    8,
                                            -1, -2, -128, -128, -128, -128, -128, 127};
  const std::array<std::int8_t, 2 * 12> b = {1,    0,    0,    0,    1,    1,    1,    1,
                                             -128, -128, -128, -128, -128, -128, -128, -128,
                                             0,    0,    0,    1,    127,  127,  127,  -1};
  std::array<std::int32_t, 2 * 3> c = {10, 20, 30, 40, 50, 0x7fffffff};
  small_config().load();
  amx::load(0, c.data(), 12);
  amx::load(1, a.data(), 8);
  amx::load(2, b.data(), 12);
  amx::add_int8(0, 1, 2);
  amx::store(0, c.data(), 12);
  amx::release();
  CHECK(c[0] == 10 + 1 - 128 * (5 + 6 + 7 + 8));
  CHECK(c[1] == 20 + (1 + 2 + 3 + 4) + 8);
  CHECK(c[2] == 30 - 128 * (1 + 2 + 3 + 4) + 127 * (5 + 6 + 7) - 8);
  CHECK(c[3] == 40 - 1 + 3 * 128 * 128 - 127 * 128);
  CHECK(c[4] == 50 - 3 - 256 + 127);
  // -2^31 after 2^31 - 1.
  const std::int64_t sum = 0x7fffffffLL + 128 * (1 + 2 + 128 + 128) - 3 * 128 * 127 - 127;
  CHECK(c[5] == static_cast<std::int32_t>(sum - (sum > 0x7fffffffLL ? 1LL << 32 : 0)));
}

// Of one row of `a` by one column of `b`, pairs of bfloat16 as floats have them.
float bf16_sum(const std::vector<float>& a, const std::vector<float>& b, float c) {
  std::vector<std::uint16_t> left, right;
  for (const float value : a) left.push_back(nearest_bfloat16(value));
  for (const float value : b) right.push_back(nearest_bfloat16(value));
  const std::size_t steps = a.size() / 2;
  Config().tile(0, 1, 4).tile(1, 1, 4 * steps).tile(2, steps, 4).load();
  amx::load(0, &c, 4);
  amx::load(1, left.data(), 64);
  amx::load(2, right.data(), 4);
  amx::add_bf16(0, 1, 2);
  amx::store(0, &c, 4);
  amx::release();
  return c;
}

TEST_CASE("amx model: bfloat16 adds even and odd values apart, then both, then to the sum") {
  const float big = 16777216.0f;  // 2^24: plus 1 it is itself
  CHECK(bf16_sum({1, 2}, {3, 4}, 5) == 16.0f);
  CHECK(bf16_sum({1, 1, 1, 1}, {1, 2, 4, 8}, 16) == 31.0f);
  // In turn 2^24 + 1 + 1 would stay 2^24.
  CHECK(bf16_sum({1, 1, 1, 1}, {big, 1, 0, 1}, 0) == big + 2.0f);
  // The even ones: 2^24, + 1 is a tie and stays, then - 2^24.
  CHECK(bf16_sum({1, 0, 1, 0, 1, 0}, {big, 0, 1, 0, -big, 0}, 0) == 0.0f);
  CHECK(bf16_sum({1, 0, 1, 0, 1, 0}, {big, 0, -big, 0, 1, 0}, 0) == 1.0f);
  // To nearest even, both ways: 2^24 + 3 is a tie between + 2 and + 4.
  CHECK(bf16_sum({1, 0, 1, 0}, {big, 0, 3, 0}, 0) == big + 4.0f);
  // The sum comes last: 2^24 + (1 + 1), not (2^24 + 1) + 1.
  CHECK(bf16_sum({1, 1}, {1, 1}, big) == big + 2.0f);
}

TEST_CASE("amx model: bfloat16 products are exact, and rounded once with what they are added to") {
  // (1 + 2^-7)^2 = 1 + 2^-6 + 2^-14; with 2^-30 only a fused addition rounds right.
  const float x = 1.0078125f;
  CHECK(bf16_sum({x, 0}, {x, 0}, 0) == 1.01568603515625f);
  const float tiny = std::ldexp(1.0f, -24);
  CHECK(bf16_sum({tiny, 0, 1, 0}, {1, 0, 1, 0}, 0) == 1.0f);
  CHECK(bf16_sum({tiny, 0, tiny / 128, 0, 1, 0}, {1, 0, 1, 0, 1, 0}, 0) == 1.0f + 2 * tiny);
}

TEST_CASE("amx model: bfloat16 takes denormals for zero and makes none") {
  const float smallest = std::numeric_limits<float>::min(), one = 1.0f;
  const float denormal = smallest / 2;
  CHECK(bf16_sum({denormal, 0}, {std::ldexp(one, 100), 0}, 0) == 0.0f);
  CHECK(bf16_sum({one, 0}, {denormal, 0}, 1) == 1.0f);
  CHECK(bf16_sum({0, 0}, {0, 0}, denormal) == 0.0f);
  CHECK(bf16_sum({smallest, 0}, {one, 0}, 0) == smallest);
  CHECK(bf16_sum({smallest, 0}, {0.5f, 0}, 0) == 0.0f);
  // Each sum is flushed on its own: the halves do not meet.
  CHECK(bf16_sum({smallest, smallest}, {0.5f, 0.5f}, 0) == 0.0f);
  CHECK(bf16_sum({smallest, 0, smallest, 0}, {1.5f, 0, -1, 0}, 0) == 0.0f);
}

TEST_CASE("amx model: bfloat16 with infinities and NaN, whatever the thread rounds like") {
  CHECK(bf16_sum({kInfinity, 1}, {1, 1}, 0) == kInfinity);
  CHECK(std::isnan(bf16_sum({kInfinity, 1}, {0, 1}, 0)));
  CHECK(std::isnan(bf16_sum({kNan, 1}, {1, 1}, 0)));
  CHECK(std::isnan(bf16_sum({kInfinity, 1}, {1, 1}, -kInfinity)));
}

// `threads` products at a time, all of the same.
void multiply_in_threads(const Matmul& matmul, const Arithmetic& arithmetic) {
  Random random(3);
  const auto a = Matrix(37, 100, 100).fill(random);
  const Weights w = make_weights(arithmetic, 75, 100, random);
  const auto packed = pack_all(matmul, w);
  const auto prepared = prepare_all(matmul, a);
  std::vector<Matrix> results(4, Matrix(37, 75, 75));
  std::vector<char> clean(results.size(), 0);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < results.size(); ++t) {
    threads.emplace_back([&, t] {
      const bool before = amx::configured();
      matmul.multiply(product(matmul, a, prepared.get(), *packed, nullptr, results[t]));
      clean[t] = !before && amx::products() > 0 && !amx::configured();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t t = 0; t < results.size(); ++t) {
    CHECK(clean[t] == 1);
    CHECK(results[t].same_bits(results[0]));
  }
  CHECK(wrong_elements(arithmetic, a, w, nullptr, results[0], Epilogue::kNone) == 0);
}

TEST_CASE("amx: every thread has its own tiles, and gives them back") {
  if (find_target("avx512bf16") == nullptr) return;
  for (const Kernels* kernels : tested_targets()) {
    const std::string name = kernels->target;
    if (supported(*kernels)) continue;  // on the model alone
    CAPTURE(name);
    const std::size_t before = amx::trapped();
    multiply_in_threads(kernels->i8, kI8);
    multiply_in_threads(kernels->bf16, kBf16);
    CHECK((amx::trapped() > before) == (name == "avx512amx"));
  }
}

// The share of the tiles' places that whole tiles would leave empty.
TEST_CASE("amx: no more products of tiles than the shape needs") {
  if (find_target("avx512bf16") == nullptr) return;
  const auto count = [](const Matmul& matmul, const Arithmetic& arithmetic, std::size_t m,
                        std::size_t n, std::size_t k) {
    Random random(4);
    const auto a = Matrix(m, k, k).fill(random);
    const Weights w = make_weights(arithmetic, n, k, random);
    Matrix c(m, n, n);
    const std::size_t before = amx::products();
    multiply(matmul, a, w, nullptr, c);
    return amx::products() - before;
  };
  const Kernels& kernels = avx512amx_model_target();
  CHECK(count(kernels.i8, kI8, 16, 64, 64) == 4);
  CHECK(count(kernels.i8, kI8, 32, 32, 64) == 4);
  CHECK(count(kernels.i8, kI8, 64, 96, 768) == 4 * 6 * 12);
  CHECK(count(kernels.bf16, kBf16, 64, 96, 768) == 4 * 6 * 24);
  CHECK(count(kernels.i8, kI8, 1, 40, 65) == 3 * 2);
  CHECK(count(kernels.i8, kI8, 40, 16, 64) == 2 * 2);  // groups of 20 rows
}

}  // namespace
}  // namespace splitee::kernels::testing
