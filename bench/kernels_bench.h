// What the rows of kernels_bench share: random values, weights as a model stores them, products.
// Thread rule: plain values.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace splitee::bench {

using kernels::Kernels;
using Floats = std::vector<float>;

inline Floats random_floats(std::size_t n, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  Floats values(n);
  std::generate(values.begin(), values.end(), [&] { return uniform(engine); });
  return values;
}

inline const Kernels& scalar() {
  return *kernels::compiled_targets().back();
}

inline bool same(const Floats& actual, const Floats& expected, float tolerance) {
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (!(std::fabs(actual[i] - expected[i]) <= tolerance)) return false;
  }
  return true;
}

struct Arithmetic {
  std::string name;
  kernels::Matmul Kernels::*matmul;
  std::size_t weight_bytes;
};
inline const Arithmetic kArithmetics[] = {{"f32", &Kernels::f32, sizeof(float)},
                                          {"bf16", &Kernels::bf16, sizeof(std::uint16_t)},
                                          {"i8", &Kernels::i8, sizeof(std::int8_t)}};

// Bytes at a multiple of 64, as fast code wants them.
class Bytes {
 public:
  explicit Bytes(std::size_t size) : size_(size), bytes_(size + 63) {}
  std::byte* data() {
    const auto address = reinterpret_cast<std::uintptr_t>(bytes_.data());
    return bytes_.data() + (64 - address % 64) % 64;
  }
  std::size_t size() const { return size_; }

 private:
  std::size_t size_;
  std::vector<std::byte> bytes_;
};

// (n, k) as a model stores it: halves for bf16, for i8 the bytes of -128 .. 127 with a scale.
struct Weights {
  std::vector<std::byte> stored;
  Floats scales;

  Weights(const Arithmetic& arithmetic, std::size_t n, std::size_t k)
      : stored(n * k * arithmetic.weight_bytes), scales(n, 1.0f / 128.0f) {
    const Floats values = random_floats(n * k, 2);
    for (std::size_t i = 0; i < n * k; ++i) {
      const float* value = &values[i];
      const auto byte = static_cast<std::int8_t>(*value * 127.0f);
      if (arithmetic.weight_bytes == sizeof(float)) {
        std::memcpy(&stored[i * sizeof(float)], value, sizeof(float));
      } else if (arithmetic.weight_bytes == sizeof byte) {
        std::memcpy(&stored[i], &byte, sizeof byte);
      } else {
        const auto upper = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(*value) >> 16);
        std::memcpy(&stored[i * sizeof upper], &upper, sizeof upper);
      }
    }
  }
};

// A product of one target, with `copies` packed weights taken in turn.
struct Product {
  const kernels::Matmul& matmul;
  std::vector<Bytes> packed;
  Bytes prepared;
  kernels::MatmulArgs args;

  Product(const kernels::Matmul& of, const Weights& w, const Floats& a, const Floats& bias,
          std::size_t m, std::size_t n, std::size_t k, std::size_t copies)
      : matmul(of), prepared(m * matmul.prepared_bytes(k)), args{} {
    for (std::size_t i = 0; i < copies; ++i) {
      matmul.pack_rows(w.stored.data(), w.scales.data(), 0, n, n, k,
                       packed.emplace_back(matmul.packed_bytes(n, k)).data());
    }
    args = {.a = a.data(),
            .a_stride_bytes = k * sizeof(float),
            .packed = nullptr,
            .bias = bias.data(),
            .c = nullptr,
            .c_stride = n,
            .m = m,
            .n = n,
            .k = k,
            .n_begin = 0,
            .n_end = n};
    if (matmul.prepare == nullptr) return;
    prepare(a);
    args.a = prepared.data();
    args.a_stride_bytes = matmul.prepared_bytes(k);
  }
  void prepare(const Floats& a) {
    if (matmul.prepare != nullptr)
      matmul.prepare(a.data(), args.k, nullptr, args.m, args.k, prepared.data());
  }
  void run(std::size_t turn, Floats& c) {
    args.packed = packed[turn % packed.size()].data();
    args.c = c.data();
    matmul.multiply(args);
  }
};

}  // namespace splitee::bench
