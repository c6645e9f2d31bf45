// Matmul in the scalar target, in its three arithmetics: the reference of all others.
//
// Packed W: panels of kColumns rows of W, each panel (k, kColumns), the last one padded with zeros;
// for i8 the scales of all columns follow the panels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/bfloat16-inl.h"
#include "kernels/kernels.h"
#include "kernels/quantise-inl.h"

namespace splitee::kernels {
namespace {
namespace scalar {

constexpr std::size_t kColumns = 8;

inline float gelu_value(float x) {
  constexpr float kSqrtHalf = 0.70710678118654752f;
  return x * 0.5f * (1.0f + std::erf(x * kSqrtHalf));
}

// Where exp is still finite, and what lies below gives 0 within float32.
constexpr float kLargestExponent = 88.0f;

// x / (1 + exp(-exponent)).
inline float gated(float x, float exponent) {
  return x / (1.0f + std::exp(-(exponent < -kLargestExponent ? -kLargestExponent : exponent)));
}

inline float gelu_tanh_value(float x) {
  constexpr float kTwiceSqrt2OverPi = 1.59576912160573071f, kCubic = 0.044715f, kLowest = -16.0f;
  if (x < kLowest) x = kLowest;
  return gated(x, kTwiceSqrt2OverPi * (x + kCubic * x * x * x));
}

inline float relu_value(float x) {
  return x < 0.0f ? 0.0f : x;
}

inline float silu_value(float x) {
  if (x < -kLargestExponent) x = -kLargestExponent;
  return gated(x, x);
}

inline float relu6_value(float x) {
  return x < 0.0f ? 0.0f : x > 6.0f ? 6.0f : x;
}

inline float hard_swish_value(float x) {
  constexpr float kSixth = 1.0f / 6.0f, kLowest = -3.0f;
  if (x < kLowest) x = kLowest;
  return x * (relu6_value(x + 3.0f) * kSixth);
}

inline float activated(Epilogue epilogue, float x) {
  switch (epilogue) {
    case Epilogue::kNone:
      break;
    case Epilogue::kGelu:
      return gelu_value(x);
    case Epilogue::kGeluTanh:
      return gelu_tanh_value(x);
    case Epilogue::kRelu:
      return relu_value(x);
    case Epilogue::kSilu:
      return silu_value(x);
    case Epilogue::kRelu6:
      return relu6_value(x);
    case Epilogue::kHardSwish:
      return hard_swish_value(x);
  }
  return x;
}

// x rounded to an integer of 0 .. most, 0 for a NaN.
inline std::int32_t rounded_up_to(float x, float most) {
  return static_cast<std::int32_t>(std::nearbyint(x > 0.0f ? std::min(x, most) : 0.0f));
}
constexpr std::int32_t kByteZero = 127;

inline std::size_t padded(std::size_t n, std::size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Each arithmetic names its types and what a row of A and a sum mean.
struct F32 {
  using Weight = float;
  using A = float;
  using Sum = float;
  static constexpr bool kScaled = false;
  static Sum multiply(A a, Weight w) { return a * w; }
};

struct Bf16 {
  using Weight = std::uint16_t;
  using A = std::uint16_t;
  using Sum = float;
  static constexpr bool kScaled = false;
  static Sum multiply(A a, Weight w) { return from_bfloat16(a) * from_bfloat16(w); }
};

// A prepared row starts with its scale.
struct I8 {
  using Weight = std::int8_t;
  using A = std::int8_t;
  using Sum = std::int32_t;
  static constexpr bool kScaled = true;
  static Sum multiply(A a, Weight w) { return Sum{a} * Sum{w}; }
};

template <class T>
constexpr std::size_t kHeaderBytes = T::kScaled ? sizeof(float) : 0;

template <class T>
std::size_t prepared_bytes(std::size_t k) {
  return padded(kHeaderBytes<T> + k * sizeof(typename T::A), 64);
}

inline void prepare_bf16(const float* a, std::size_t a_stride, const float*, std::size_t rows,
                         std::size_t k, void* prepared) {
  for (std::size_t r = 0; r < rows; ++r) {
    auto* row = static_cast<std::byte*>(prepared) + r * prepared_bytes<Bf16>(k);
    for (std::size_t i = 0; i < k; ++i) {
      const std::uint16_t value = to_bfloat16(a[r * a_stride + i]);
      std::memcpy(row + i * sizeof value, &value, sizeof value);
    }
  }
}

inline void prepare_i8(const float* a, std::size_t a_stride, const float* column_scales,
                       std::size_t rows, std::size_t k, void* prepared) {
  for (std::size_t r = 0; r < rows; ++r) {
    const float* from = a + r * a_stride;
    auto* row = static_cast<std::byte*>(prepared) + r * prepared_bytes<I8>(k);
    const auto value = [&](std::size_t i) {
      return column_scales == nullptr ? from[i] : from[i] * column_scales[i];
    };
    std::int32_t largest = 0;
    for (std::size_t i = 0; i < k; ++i) largest = std::max(largest, magnitude_bits(value(i)));
    const RowScale scale = row_scale(largest);
    std::memcpy(row, &scale.scale, sizeof scale.scale);
    row += kHeaderBytes<I8>;
    for (std::size_t i = 0; i < k; ++i) {
      const float q = scale.inverse == 0.0f ? 0.0f : std::nearbyint(value(i) * scale.inverse);
      row[i] = static_cast<std::byte>(static_cast<std::int8_t>(q));
    }
  }
}

template <class T>
std::size_t packed_bytes(std::size_t n, std::size_t k) {
  return padded(n, kColumns) * (k * sizeof(typename T::Weight) + kHeaderBytes<T>);
}

template <class T>
void pack_rows(const void* w, const float* scales, std::size_t row, std::size_t rows, std::size_t n,
               std::size_t k, void* packed) {
  using Weight = typename T::Weight;
  auto* panels = static_cast<std::byte*>(packed);
  const auto put = [&](std::size_t column, std::size_t i, const std::byte* value) {
    const std::size_t at = column / kColumns * kColumns * k + i * kColumns + column % kColumns;
    if (value == nullptr) {
      std::memset(panels + at * sizeof(Weight), 0, sizeof(Weight));
    } else {
      std::memcpy(panels + at * sizeof(Weight), value, sizeof(Weight));
    }
  };
  const auto* from = static_cast<const std::byte*>(w);
  const std::size_t end = row + rows < n ? n : padded(n, kColumns);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t i = 0; i < k; ++i) put(row + r, i, from + (r * k + i) * sizeof(Weight));
  }
  for (std::size_t column = n; column < end; ++column) {
    for (std::size_t i = 0; i < k; ++i) put(column, i, nullptr);
  }
  if constexpr (T::kScaled) {
    std::byte* to = panels + padded(n, kColumns) * k * sizeof(Weight);
    std::memcpy(to + row * sizeof(float), scales, rows * sizeof(float));
    std::memset(to + n * sizeof(float), 0, (end - n) * sizeof(float));
  }
}

// The sum over k of a row of A, which is `parts` pieces, and a column of W.
template <class T>
typename T::Sum dot(const MatmulArgs& args, const std::byte* a, const std::byte* column) {
  typename T::Sum sum = 0;
  const std::size_t part = args.k / args.parts;
  for (std::size_t i = 0; i < args.k; ++i) {
    typename T::A left;
    typename T::Weight right;
    std::memcpy(&left, a + i / part * args.part_stride_bytes + i % part * sizeof left, sizeof left);
    std::memcpy(&right, column + i * kColumns * sizeof right, sizeof right);
    sum += T::multiply(left, right);
  }
  return sum;
}

template <class T>
void multiply(const MatmulArgs& args) {
  const auto* packed = static_cast<const std::byte*>(args.packed);
  const std::size_t k = args.k, weight_bytes = sizeof(typename T::Weight);
  const std::byte* scales = packed + padded(args.n, kColumns) * k * weight_bytes;
  const std::size_t line_rows = args.line_rows == 0 ? args.m : args.line_rows;
  for (std::size_t column = args.n_begin; column < args.n_end; ++column) {
    const std::size_t first = column / kColumns * kColumns * k + column % kColumns;
    for (std::size_t r = 0; r < args.m; ++r) {
      const std::byte* a = static_cast<const std::byte*>(args.a) +
                           r / line_rows * args.line_stride_bytes +
                           r % line_rows * args.a_stride_bytes;
      const bool own_head = args.head == nullptr;
      auto value = static_cast<float>(
          dot<T>(args, a + (own_head ? kHeaderBytes<T> : 0), packed + first * weight_bytes));
      if constexpr (T::kScaled) {
        float scale_a = 0.0f, scale_w = 0.0f;
        std::memcpy(&scale_a, own_head ? a : args.head, sizeof scale_a);
        std::memcpy(&scale_w, scales + column * sizeof scale_w, sizeof scale_w);
        if (args.fixed != nullptr) {
          value = value * scale_w * (scale_a * kFixedOfOne);
          if (args.bias != nullptr) value += args.bias[column] * kFixedOfOne;
          args.fixed[r * args.n + column] =
              static_cast<std::uint16_t>(rounded_up_to(value, kFixedSteps));
          continue;
        }
        value = value * scale_w * scale_a;
      }
      if (args.bias != nullptr) value += args.bias[column];
      args.c[r * args.c_stride + column] = activated(args.epilogue, value);
    }
  }
}

template <class T>
constexpr Matmul matmul(decltype(Matmul::prepare) prepare) {
  return {.columns = kColumns,
          .head_bytes = kHeaderBytes<T>,
          .value_bytes = sizeof(typename T::A),
          .byte_zero = T::kScaled ? kByteZero : 0,
          .prepared_bytes = prepared_bytes<T>,
          .prepare = prepare,
          .packed_bytes = packed_bytes<T>,
          .pack_rows = pack_rows<T>,
          .multiply = multiply<T>};
}

}  // namespace scalar
}  // namespace
}  // namespace splitee::kernels
