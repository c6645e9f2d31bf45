// One row per operation, target and real shape. Counters: GFLOPS, and for matmul and attention the
// share of the target's own peak, measured at start (rows "peak"). Every output is compared with
// the scalar target's before it is timed. "cold" rows go through weights of 64 MB, as a model
// does; the others use the same weight again and again.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "bench/peak.h"
#include "kernels/kernels.h"

namespace splitee::bench {
namespace {

using kernels::Kernels;
using Floats = std::vector<float>;

Floats random_floats(std::size_t n, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  Floats values(n);
  std::generate(values.begin(), values.end(), [&] { return uniform(engine); });
  return values;
}

const Kernels& scalar() {
  return *kernels::compiled_targets().back();
}

bool same(const Floats& actual, const Floats& expected, float tolerance) {
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (!(std::fabs(actual[i] - expected[i]) <= tolerance)) return false;
  }
  return true;
}

double thread_seconds() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// The best of several short runs, in operations a second.
double measured_peak(const std::string& target) {
  static std::map<std::string, double> peaks;
  double& peak = peaks[target];
  for (int run = 0; run < 20 && peak == 0.0; ++run) {
    for (int i = 0; i < 20; ++i) {
      const double start = thread_seconds();
      const auto operations = static_cast<double>(run_peak(target, 1'000'000));
      peak = std::max(peak, operations / (thread_seconds() - start));
    }
  }
  return peak;
}

void count_operations(benchmark::State& state, double each, const std::string& target) {
  const double total = each * static_cast<double>(state.iterations());
  state.counters["GFLOPS"] = benchmark::Counter(total * 1e-9, benchmark::Counter::kIsRate);
  const double peak = measured_peak(target);
  if (peak > 0.0) {
    state.counters["of_peak"] = benchmark::Counter(total / peak, benchmark::Counter::kIsRate);
  }
}

void bench_peak(benchmark::State& state, const std::string& target) {
  double operations = 0.0;
  for (auto _ : state) operations += static_cast<double>(run_peak(target, 100'000));
  state.counters["GFLOPS"] = benchmark::Counter(operations * 1e-9, benchmark::Counter::kIsRate);
}

// C (m, n) = A (m, k) W^T, W (n, k), with `copies` packed weights taken in turn.
void bench_matmul(benchmark::State& state, const Kernels& kernels, std::size_t m, std::size_t k,
                  std::size_t n, std::size_t copies) {
  const Floats a = random_floats(m * k, 1);
  const Floats w = random_floats(n * k, 2);
  const Floats bias = random_floats(n, 3);
  const auto multiply = [&](const Kernels& target, const Floats& packed, Floats& c) {
    target.f32.multiply({.a = a.data(),
                         .a_stride_bytes = k * sizeof(float),
                         .packed = packed.data(),
                         .bias = bias.data(),
                         .c = c.data(),
                         .c_stride = n,
                         .m = m,
                         .n = n,
                         .k = k,
                         .n_begin = 0,
                         .n_end = n});
  };
  const auto pack = [&](const Kernels& target) {
    Floats packed(target.f32.packed_bytes(n, k) / sizeof(float));
    target.f32.pack_rows(w.data(), nullptr, 0, n, n, k, packed.data());
    return packed;
  };
  const std::vector<Floats> weights(copies, pack(kernels));
  Floats c(m * n);
  Floats expected(m * n);
  multiply(kernels, weights[0], c);
  multiply(scalar(), pack(scalar()), expected);
  if (!same(c, expected, 1e-6f * static_cast<float>(k))) {
    state.SkipWithError("differs from scalar");
    return;
  }
  std::size_t turn = 0;
  for (auto _ : state) {
    multiply(kernels, weights[turn++ % copies], c);
    benchmark::DoNotOptimize(c.data());
  }
  count_operations(state, 2.0 * static_cast<double>(m * n * k), kernels.target);
  const double bytes = static_cast<double>(weights[0].size() * sizeof(float) * state.iterations());
  state.counters["weight_GBps"] = benchmark::Counter(bytes * 1e-9, benchmark::Counter::kIsRate);
}

void bench_attention(benchmark::State& state, const Kernels& kernels, std::size_t q_rows,
                     std::size_t kv_rows, std::size_t heads, std::size_t head_size) {
  const std::size_t hidden = heads * head_size;
  const Floats q = random_floats(q_rows * hidden, 1);
  const Floats k = random_floats(kv_rows * hidden, 2);
  const Floats v = random_floats(kv_rows * hidden, 3);
  Floats out(q_rows * hidden);
  Floats expected = out;
  const auto run = [&](const Kernels& target, Floats& scratch, Floats& to) {
    target.attention(q.data(), hidden, k.data(), hidden, v.data(), hidden, to.data(), hidden,
                     q_rows, kv_rows, head_size, 0, heads, scratch.data());
  };
  Floats scratch(kernels.attention_scratch(q_rows, kv_rows, head_size));
  Floats scalar_scratch(scalar().attention_scratch(q_rows, kv_rows, head_size));
  run(kernels, scratch, out);
  run(scalar(), scalar_scratch, expected);
  if (!same(out, expected, 1e-4f)) {
    state.SkipWithError("differs from scalar");
    return;
  }
  for (auto _ : state) {
    run(kernels, scratch, out);
    benchmark::DoNotOptimize(out.data());
  }
  count_operations(state, 4.0 * static_cast<double>(q_rows * kv_rows * hidden), kernels.target);
}

// An operation in place on (rows, cols). Its input is restored before every run, and that copy is
// part of the time.
using InPlace = std::function<void(const Kernels&, float*)>;
void bench_in_place(benchmark::State& state, const Kernels& kernels, std::size_t n,
                    const InPlace& operation) {
  const Floats in = random_floats(n, 1);
  Floats out = in;
  Floats expected = in;
  operation(kernels, out.data());
  operation(scalar(), expected.data());
  if (!same(out, expected, 1e-4f)) {
    state.SkipWithError("differs from scalar");
    return;
  }
  for (auto _ : state) {
    std::memcpy(out.data(), in.data(), n * sizeof(float));
    operation(kernels, out.data());
    benchmark::DoNotOptimize(out.data());
  }
  state.counters["elements"] =
      benchmark::Counter(static_cast<double>(n * state.iterations()), benchmark::Counter::kIsRate);
}

template <class Body, class... Args>
void add(const std::string& name, const Body& body, Args... args) {
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { body(state, args...); })
      ->Unit(benchmark::kMicrosecond)
      ->ComputeStatistics("min",
                          [](const std::vector<double>& values) {
                            return *std::min_element(values.begin(), values.end());
                          })
      ->ComputeStatistics("max", [](const std::vector<double>& values) {
        return *std::max_element(values.begin(), values.end());
      });
}

struct Model {
  std::size_t hidden;
  std::size_t ffn;
  std::size_t heads;
};
constexpr Model kModels[] = {{768, 3072, 12}, {256, 1024, 4}, {192, 768, 6}};

void add_matmul(const Kernels& kernels, const Model& model) {
  const std::string target = kernels.target;
  const std::pair<std::size_t, std::size_t> shapes[] = {
      {model.hidden, model.hidden}, {model.hidden, model.ffn}, {model.ffn, model.hidden}};
  for (const auto& [k, n] : shapes) {
    for (const std::size_t m : {1u, 16u, 32u, 64u, 128u}) {
      const std::string shape = std::to_string(k) + "x" + std::to_string(n);
      const std::string name = "matmul/" + target + "/" + shape + "/m:" + std::to_string(m);
      const std::size_t copies = (std::size_t{1} << 24) / (k * n) + 1;
      add(name, bench_matmul, kernels, m, k, n, std::size_t{1});
      if (m <= 16) add(name + "/cold", bench_matmul, kernels, m, k, n, copies);
    }
  }
}

void add_rest(const Kernels& kernels, const Model& model) {
  const std::string target = kernels.target;
  const std::size_t head_size = model.hidden / model.heads;
  const std::string heads = std::to_string(model.heads) + "x" + std::to_string(head_size);
  for (const auto& [q_rows, kv_rows] :
       {std::pair(1u, 128u), std::pair(16u, 16u), std::pair(128u, 128u), std::pair(512u, 512u)}) {
    add("attention/" + target + "/" + heads + "/q:" + std::to_string(q_rows) +
            "/kv:" + std::to_string(kv_rows),
        bench_attention, kernels, std::size_t{q_rows}, std::size_t{kv_rows}, model.heads,
        head_size);
  }
  const std::size_t rows = 128;
  const std::size_t hidden = model.hidden;
  const std::string suffix = target + "/128x" + std::to_string(hidden);
  const auto vectors = std::make_shared<Floats>(random_floats(3 * hidden * rows, 5));
  add("softmax/" + target + "/128x128", bench_in_place, kernels, rows * 128,
      InPlace([](const Kernels& k, float* x) { k.softmax(x, 128, 128, 128); }));
  add("layer_norm/" + suffix, bench_in_place, kernels, rows * hidden,
      InPlace([=](const Kernels& k, float* x) {
        const float* residual = vectors->data() + 2 * hidden;
        k.layer_norm(x, hidden, residual, hidden, vectors->data(), vectors->data() + hidden, 1e-12f,
                     x, hidden, rows, hidden);
      }));
  const std::size_t elements = rows * model.ffn;
  add("gelu/" + target + "/128x" + std::to_string(model.ffn), bench_in_place, kernels, elements,
      InPlace([=](const Kernels& k, float* x) { k.gelu(x, elements); }));
  add("tanh/" + target + "/" + std::to_string(hidden), bench_in_place, kernels, hidden,
      InPlace([=](const Kernels& k, float* x) { k.tanh(x, hidden); }));
  add("embed/" + suffix, bench_in_place, kernels, rows * hidden,
      InPlace([=](const Kernels& k, float* x) {
        std::vector<std::int32_t> ids(rows);
        for (std::size_t r = 0; r < rows; ++r) ids[r] = static_cast<std::int32_t>(r * 37 % rows);
        const std::vector<std::int32_t> types(rows, 0);
        k.embed(ids.data(), types.data(), vectors->data(), vectors->data() + hidden,
                vectors->data(), x, rows, hidden);
      }));
}

}  // namespace
}  // namespace splitee::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  for (const splitee::kernels::Kernels* kernels : splitee::kernels::compiled_targets()) {
    if (!supported(*kernels)) continue;
    splitee::bench::add(std::string("peak/") + kernels->target, splitee::bench::bench_peak,
                        std::string(kernels->target));
    for (const auto& model : splitee::bench::kModels) {
      splitee::bench::add_matmul(*kernels, model);
      splitee::bench::add_rest(*kernels, model);
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
