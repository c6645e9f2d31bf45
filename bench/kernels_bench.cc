// One row per operation, target and shape of bench/shapes.txt (--shapes=FILE names another), each
// beside the target's peak (see support.h). Every output is compared with the scalar target's
// before it is timed. "cold" rows go through weights of 64 MB, as a model does; the others use the
// same weight again and again. "prepare" rows include the preparing of the activations, and so do
// convolutions.
#include "bench/kernels_bench.h"

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

#include "bench/support.h"

namespace splitee::bench {
namespace {

// C (m, n) = A (m, k) W^T, W (n, k); rows named "prepare" include the preparing of A.
void bench_matmul(benchmark::State& state, const Kernels& kernels, const Arithmetic& arithmetic,
                  std::size_t m, std::size_t k, std::size_t n, std::size_t copies, bool prepare) {
  const Floats a = random_floats(m * k, 1);
  const Floats bias = random_floats(n, 3);
  const Weights w(arithmetic, n, k);
  Product product(kernels.*arithmetic.matmul, w, a, bias, m, n, k, copies);
  Product reference(scalar().*arithmetic.matmul, w, a, bias, m, n, k, 1);
  Floats c(m * n);
  Floats expected(m * n);
  product.run(0, c);
  reference.run(0, expected);
  const bool exact = arithmetic.name == "i8";
  if (!same(c, expected, exact ? 0.0f : 1e-6f * static_cast<float>(k))) {
    state.SkipWithError("differs from scalar");
    return;
  }
  std::size_t turn = 0;
  for (auto _ : state) {
    if (prepare) product.prepare(a);
    product.run(turn++, c);
    benchmark::DoNotOptimize(c.data());
  }
  count_operations(state, 2.0 * static_cast<double>(m * n * k), arithmetic.name, kernels.target);
  const double bytes = static_cast<double>(w.stored.size() * state.iterations());
  state.counters["weight_GBps"] = benchmark::Counter(bytes * 1e-9, benchmark::Counter::kIsRate);
}

// W (n, k) from the stored to the packed form.
void bench_pack(benchmark::State& state, const Kernels& kernels, const Arithmetic& arithmetic,
                std::size_t k, std::size_t n) {
  const Weights w(arithmetic, n, k);
  const kernels::Matmul& matmul = kernels.*arithmetic.matmul;
  Bytes packed(matmul.packed_bytes(n, k));
  for (auto _ : state) {
    matmul.pack_rows(w.stored.data(), w.scales.data(), 0, n, n, k, packed.data());
    benchmark::DoNotOptimize(packed.data());
  }
  const double bytes = static_cast<double>(w.stored.size() * state.iterations());
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
    target.attention({q.data(), hidden, k.data(), hidden, v.data(), hidden, to.data(), hidden,
                      q_rows, kv_rows, head_size, 0, heads, scratch.data()});
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
  count_operations(state, 4.0 * static_cast<double>(q_rows * kv_rows * hidden), "f32",
                   kernels.target);
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

// A convolution of one target on a map that has its border: windows of kernel x kernel pixels are
// read where they lie; of 1 x 1, stride 1, the rows are the pixels.
struct Convolution {
  const kernels::Matmul& matmul;
  Floats map;
  Bytes packed, prepared;
  kernels::MatmulArgs args;

  static std::size_t bordered(const ConvShape& s) { return s.side + s.kernel - 1; }
  static std::size_t out_side(const ConvShape& s) { return (s.side + s.stride - 1) / s.stride; }

  Convolution(const kernels::Matmul& of, const Weights& w, const Floats& bias, const ConvShape& s)
      : matmul(of),
        map(random_floats(bordered(s) * bordered(s) * s.channels, 1)),
        packed(matmul.packed_bytes(s.out, s.kernel * s.kernel * s.channels)),
        prepared(matmul.prepared_bytes(map.size())),
        args{} {
    const std::size_t k = s.kernel * s.kernel * s.channels;
    matmul.pack_rows(w.stored.data(), w.scales.data(), 0, s.out, s.out, k, packed.data());
    const std::size_t pixel = s.channels * matmul.value_bytes, line = bordered(s) * pixel;
    args = {.a = map.data(),
            .a_stride_bytes = s.stride * pixel,
            .packed = packed.data(),
            .bias = bias.data(),
            .c = nullptr,
            .c_stride = s.out,
            .m = out_side(s) * out_side(s),
            .n = s.out,
            .k = k,
            .n_begin = 0,
            .n_end = s.out,
            .epilogue = kernels::Epilogue::kRelu,
            .line_rows = out_side(s),
            .line_stride_bytes = s.stride * line,
            .parts = s.kernel,
            .part_stride_bytes = line};
    if (matmul.prepare != nullptr) {
      args.a = prepared.data() + matmul.head_bytes;
      args.head = prepared.data();
    }
  }
  // As a network does it: the map is prepared, then multiplied.
  void run(Floats& c) {
    if (matmul.prepare != nullptr) {
      matmul.prepare(map.data(), map.size(), nullptr, 1, map.size(), prepared.data());
    }
    args.c = c.data();
    matmul.multiply(args);
  }
};

void bench_convolution(benchmark::State& state, const Kernels& kernels,
                       const Arithmetic& arithmetic, const ConvShape& shape) {
  const std::size_t k = shape.kernel * shape.kernel * shape.channels;
  const Weights w(arithmetic, shape.out, k);
  const Floats bias = random_floats(shape.out, 3);
  Convolution convolution(kernels.*arithmetic.matmul, w, bias, shape);
  Convolution reference(scalar().*arithmetic.matmul, w, bias, shape);
  Floats c(convolution.args.m * shape.out), expected(c.size());
  convolution.run(c);
  reference.run(expected);
  if (!same(c, expected, arithmetic.name == "i8" ? 0.0f : 1e-6f * static_cast<float>(k))) {
    state.SkipWithError("differs from scalar");
    return;
  }
  for (auto _ : state) {
    convolution.run(c);
    benchmark::DoNotOptimize(c.data());
  }
  count_operations(state, 2.0 * static_cast<double>(c.size() * k), arithmetic.name, kernels.target);
}

// A depthwise convolution or a pooling: its operations count as multiplications and additions.
void bench_window(benchmark::State& state, const Kernels& kernels,
                  void (*Kernels::*operation)(const kernels::WindowArgs&), const MapSize& map,
                  std::size_t stride) {
  const std::size_t side = (map.side + stride - 1) / stride;
  const Floats x = random_floats(map.side * map.side * map.channels, 1);
  const Floats weights = random_floats(9 * map.channels, 2), bias = random_floats(map.channels, 3);
  Floats out(side * side * map.channels), expected(out.size());
  const auto run = [&](const Kernels& target, Floats& to) {
    (target.*operation)({.x = x.data(),
                         .height = map.side,
                         .width = map.side,
                         .channels = map.channels,
                         .stride = stride,
                         .weights = weights.data(),
                         .bias = bias.data(),
                         .out = to.data(),
                         .begin = 0,
                         .end = side,
                         .epilogue = kernels::Epilogue::kRelu6});
  };
  run(kernels, out);
  run(scalar(), expected);
  if (!same(out, expected, 1e-5f)) {
    state.SkipWithError("differs from scalar");
    return;
  }
  for (auto _ : state) {
    run(kernels, out);
    benchmark::DoNotOptimize(out.data());
  }
  count_operations(state, 18.0 * static_cast<double>(out.size()), "f32", kernels.target);
}

// From floats or from a fixed map to a byte map.
void bench_bytes(benchmark::State& state, const Kernels& kernels, const MapSize& map,
                 std::size_t stride, bool from_fixed) {
  const std::size_t side = (map.side + stride - 1) / stride;
  const Floats x = random_floats(map.side * map.side * map.channels, 1);
  std::vector<std::uint16_t> fixed(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    fixed[i] = static_cast<std::uint16_t>(std::fabs(x[i]) * kernels::kFixedOfOne);
  }
  const Floats weights = random_floats(9 * map.channels, 2), bias = random_floats(map.channels, 3);
  std::vector<std::byte> out(side * side * map.channels), expected(out.size());
  const auto run = [&](const Kernels& target, std::vector<std::byte>& to) {
    target.depthwise3x3({.x = x.data(),
                         .height = map.side,
                         .width = map.side,
                         .channels = map.channels,
                         .stride = stride,
                         .weights = weights.data(),
                         .bias = bias.data(),
                         .out = nullptr,
                         .begin = 0,
                         .end = side,
                         .epilogue = kernels::Epilogue::kRelu6,
                         .fixed_x = from_fixed ? fixed.data() : nullptr,
                         .byte_out = to.data()});
  };
  run(kernels, out);
  run(scalar(), expected);
  // A byte is the unit itself where byte_zero is 128, else the unit less 127, as the scalar one's.
  const int form = kernels.i8.byte_zero == 128 ? scalar().i8.byte_zero : 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto difference =
        static_cast<std::int8_t>(static_cast<int>(out[i]) - static_cast<int>(expected[i]) - form);
    if (std::abs(difference) > 1) return state.SkipWithError("differs from scalar");
  }
  for (auto _ : state) {
    run(kernels, out);
    benchmark::DoNotOptimize(out.data());
  }
  count_operations(state, 18.0 * static_cast<double>(out.size()), "f32", kernels.target);
}

// A 1 x 1 convolution by int8 with ReLU6 to a fixed map, its pixels prepared.
void bench_fixed(benchmark::State& state, const Kernels& kernels, const ConvShape& shape) {
  const std::size_t m = shape.side * shape.side;
  const Arithmetic& i8 = kArithmetics[2];
  const Weights w(i8, shape.out, shape.channels);
  const Floats a = random_floats(m * shape.channels, 1), bias = random_floats(shape.out, 3);
  Product product(kernels.i8, w, a, bias, m, shape.out, shape.channels, 1);
  Product reference(scalar().i8, w, a, bias, m, shape.out, shape.channels, 1);
  std::vector<std::uint16_t> fixed(m * shape.out), expected(fixed.size());
  Floats unused;
  for (const auto& [side, to] : {std::pair(&product, &fixed), std::pair(&reference, &expected)}) {
    side->args.epilogue = kernels::Epilogue::kRelu6;
    side->args.fixed = to->data();
    side->run(0, unused);
  }
  if (fixed != expected) return state.SkipWithError("differs from scalar");
  for (auto _ : state) {
    product.run(0, unused);
    benchmark::DoNotOptimize(fixed.data());
  }
  count_operations(state, 2.0 * static_cast<double>(m * shape.out * shape.channels), "i8",
                   kernels.target);
}

void bench_mean(benchmark::State& state, const Kernels& kernels, const MapSize& map) {
  const std::size_t pixels = map.side * map.side;
  const Floats x = random_floats(pixels * map.channels, 1);
  Floats out(map.channels), expected(map.channels);
  kernels.mean_rows(x.data(), pixels, map.channels, out.data());
  scalar().mean_rows(x.data(), pixels, map.channels, expected.data());
  if (!same(out, expected, 1e-4f)) {
    state.SkipWithError("differs from scalar");
    return;
  }
  for (auto _ : state) {
    kernels.mean_rows(x.data(), pixels, map.channels, out.data());
    benchmark::DoNotOptimize(out.data());
  }
  count_operations(state, static_cast<double>(x.size()), "f32", kernels.target);
}

template <class Body, class... Args>
void add(const std::string& name, const Body& body, Args... args) {
  add_row(name, [=](benchmark::State& state) { body(state, args...); });
}

void add_matmul(const Kernels& kernels, const Arithmetic& arithmetic, const ModelShape& model,
                const std::vector<std::size_t>& tokens) {
  const std::string prefix = kernels.target + ("/" + arithmetic.name) + "/";
  const std::pair<std::size_t, std::size_t> shapes[] = {
      {model.hidden, model.hidden}, {model.hidden, model.ffn}, {model.ffn, model.hidden}};
  for (const auto& [k, n] : shapes) {
    const std::string shape = std::to_string(k) + "x" + std::to_string(n);
    add("pack/" + prefix + shape, bench_pack, kernels, arithmetic, k, n);
    const std::size_t copies = (std::size_t{1} << 26) / (k * n * arithmetic.weight_bytes) + 1;
    for (const std::size_t m : tokens) {
      const std::string name = "matmul/" + prefix + shape + "/m:" + std::to_string(m);
      add(name, bench_matmul, kernels, arithmetic, m, k, n, std::size_t{1}, false);
      if (arithmetic.name != "f32") {
        add(name + "/prepare", bench_matmul, kernels, arithmetic, m, k, n, std::size_t{1}, true);
      }
      if (m <= 16) {
        add(name + "/cold", bench_matmul, kernels, arithmetic, m, k, n, copies, false);
      }
    }
  }
}

void add_rest(const Kernels& kernels, const ModelShape& model) {
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

void add_convolutions(const Kernels& kernels, const Shapes& shapes) {
  for (const ConvShape& s : shapes.convolutions) {
    for (const Arithmetic& arithmetic : kArithmetics) {
      // A piece of a window has to be a multiple of 4 values where rows are prepared.
      const bool prepares = (kernels.*arithmetic.matmul).prepare != nullptr;
      if (prepares && s.kernel * s.channels % 4 != 0) continue;
      add("conv" + std::to_string(s.kernel) + "x" + std::to_string(s.kernel) + "/" +
              kernels.target + "/" + arithmetic.name + "/" + std::to_string(s.side) + "x" +
              std::to_string(s.side) + "x" + std::to_string(s.channels) +
              "/out:" + std::to_string(s.out) + "/stride:" + std::to_string(s.stride),
          bench_convolution, kernels, arithmetic, s);
    }
  }
  for (const ConvShape& s : shapes.convolutions) {
    if (s.kernel != 1 || s.out < s.channels) continue;
    add("conv1x1_fixed/" + std::string(kernels.target) + "/" + std::to_string(s.side) + "x" +
            std::to_string(s.side) + "x" + std::to_string(s.channels) +
            "/out:" + std::to_string(s.out),
        bench_fixed, kernels, s);
  }
  for (const MapSize& map : shapes.maps) {
    const std::string side = std::to_string(map.side);
    const std::string suffix = std::string("/") + kernels.target + "/" + side + "x" + side + "x" +
                               std::to_string(map.channels);
    for (const std::size_t stride : {1, 2}) {
      const std::string end = suffix + "/stride:" + std::to_string(stride);
      add("depthwise3x3" + end, bench_window, kernels, &Kernels::depthwise3x3, map, stride);
      for (const bool fixed : {false, true}) {
        add(std::string("depthwise3x3_bytes/") + (fixed ? "fixed" : "f32") + end, bench_bytes,
            kernels, map, stride, fixed);
      }
      add("max_pool3x3" + end, bench_window, kernels, &Kernels::max_pool3x3, map, stride);
    }
    add("mean_rows" + suffix, bench_mean, kernels, map);
    const std::size_t n = map.side * map.side * map.channels;
    const auto other = std::make_shared<Floats>(random_floats(n, 2));
    add("add" + suffix, bench_in_place, kernels, n, InPlace([=](const Kernels& k, float* x) {
          k.add(x, other->data(), n, kernels::Epilogue::kRelu);
        }));
  }
}

void add_all(const Kernels& kernels, const Shapes& shapes) {
  add_convolutions(kernels, shapes);
  for (const ModelShape& model : shapes.models) {
    for (const Arithmetic& arithmetic : kArithmetics) {
      add_matmul(kernels, arithmetic, model, shapes.tokens);
    }
    add_rest(kernels, model);
  }
}

}  // namespace
}  // namespace splitee::bench

int main(int argc, char** argv) {
  namespace bench = splitee::bench;
  const std::vector<std::string> paths = bench::take_flag(argc, argv, "shapes");
  const bench::Shapes shapes = bench::read_shapes(paths.empty() ? "bench/shapes.txt" : paths[0]);
  for (const splitee::kernels::Kernels* kernels : splitee::kernels::compiled_targets()) {
    if (supported(*kernels)) bench::add_all(*kernels, shapes);
  }
  return bench::run_benchmarks(argc, argv);
}
