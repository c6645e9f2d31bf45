// What the kernel tests share: every target in turn, seeded numbers, guarded buffers.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "kernels/kernels.h"
#ifdef SPLITEE_WITH_AMX_MODEL
#include "tests/kernels/amx_model.h"
#include "tests/kernels/amx_trap.h"
#endif

namespace splitee::kernels::testing {

constexpr double kEpsilon = std::numeric_limits<float>::epsilon();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Most lanes and columns of a panel that any target has.
constexpr std::size_t kMaxLanes = 16;

// Every target that this CPU has, and that of AMX on a model of its instructions: its code as it is
// written, and its machine code by a trap, which lasts until the test ends. The ones that the CPU
// lacks are printed once, by the first test of dispatch_test.cc.
inline std::vector<const Kernels*> tested_targets() {
  std::vector<const Kernels*> targets;
  for (const Kernels* kernels : compiled_targets()) {
    if (supported(*kernels)) targets.push_back(kernels);
  }
#ifdef SPLITEE_WITH_AMX_MODEL
  if (find_target("avx512bf16") == nullptr) return targets;
  targets.push_back(&avx512amx_model_target());
  for (const Kernels* kernels : compiled_targets()) {
    if (std::string(kernels->target) != "avx512amx" || supported(*kernels)) continue;
    amx::trap_instructions();
    targets.push_back(kernels);
  }
#endif
  return targets;
}

// Calls test(kernels) for each of them.
template <class Test>
void for_each_target(const Test& test) {
  for (const Kernels* kernels : tested_targets()) {
    const std::string target = kernels->target;
    CAPTURE(target);
    test(*kernels);
  }
}

class Random {
 public:
  explicit Random(std::uint32_t seed) : seed_(seed), engine_(seed) {}
  std::uint32_t seed() const { return seed_; }
  float uniform(float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(engine_);
  }
  std::size_t below(std::size_t n) {
    return std::uniform_int_distribution<std::size_t>(0, n - 1)(engine_);
  }
  std::mt19937& engine() { return engine_; }

 private:
  std::uint32_t seed_;
  std::mt19937 engine_;
};

// A (rows, cols) matrix whose start is `offset` floats past an allocation and whose rows are
// `stride` apart. Before, behind and between the rows lie guard words: a NaN, so that a stray read
// shows in the result and a stray write in guards_intact().
class Matrix {
 public:
  Matrix(std::size_t rows, std::size_t cols, std::size_t stride, std::size_t offset = 0)
      : rows_(rows), cols_(cols), stride_(stride), start_(kGuard + offset) {
    floats_.resize(start_ + rows * stride + kGuard);
    const std::uint32_t bits = kGuardBits;
    for (float& value : floats_) std::memcpy(&value, &bits, sizeof value);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < cols; ++c) at(r, c) = 0.0f;
    }
  }

  float* data() { return floats_.data() + start_; }
  const float* data() const { return floats_.data() + start_; }
  float& at(std::size_t r, std::size_t c) { return floats_[start_ + r * stride_ + c]; }
  float at(std::size_t r, std::size_t c) const { return floats_[start_ + r * stride_ + c]; }
  std::size_t rows() const { return rows_; }
  std::size_t cols() const { return cols_; }
  std::size_t stride() const { return stride_; }

  Matrix& fill(Random& random, float low = -1.0f, float high = 1.0f) {
    for (std::size_t r = 0; r < rows_; ++r) {
      for (std::size_t c = 0; c < cols_; ++c) at(r, c) = random.uniform(low, high);
    }
    return *this;
  }

  bool guards_intact() const {
    for (std::size_t i = 0; i < floats_.size(); ++i) {
      const bool inside =
          i >= start_ && i < start_ + rows_ * stride_ && (i - start_) % stride_ < cols_;
      std::uint32_t bits = 0;
      std::memcpy(&bits, &floats_[i], sizeof bits);
      if (!inside && bits != kGuardBits) return false;
    }
    return true;
  }

  // Every element, guards included, bit for bit.
  bool same_bits(const Matrix& other) const {
    return floats_.size() == other.floats_.size() &&
           std::memcmp(floats_.data(), other.floats_.data(), floats_.size() * sizeof(float)) == 0;
  }

 private:
  static constexpr std::size_t kGuard = 40;
  static constexpr std::uint32_t kGuardBits = 0x7fc0beef;
  std::size_t rows_;
  std::size_t cols_;
  std::size_t stride_;
  std::size_t start_;
  std::vector<float> floats_;
};

// Whether `actual` is within `tolerance` of `expected`; NaN matches NaN alone, and an infinity
// itself alone.
inline bool close(double actual, double expected, double tolerance) {
  if (std::isnan(expected)) return std::isnan(actual);
  if (std::isinf(expected)) return actual == expected;
  return std::fabs(actual - expected) <= tolerance;
}

}  // namespace splitee::kernels::testing
