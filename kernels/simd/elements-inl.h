// Operations on elements, in place: activations and tanh.
#pragma once

#include "kernels/kernels.h"
#include "kernels/simd/math-inl.h"

namespace splitee::kernels {
namespace {

template <class V>
V gelu_vector(V x) {
  constexpr float kSqrtHalf = 0.70710678118654752f;
  return x * V(0.5f) * (V(1.0f) + erf_vector(x * V(kSqrtHalf)));
}

// x / (1 + exp(-exponent)).
template <class V>
V gated(V x, V exponent) {
  constexpr float kLargest = 88.0f;  // where exp is still finite
  return x / (V(1.0f) + exp_vector(-max_keeping_nan(V(-kLargest), exponent)));
}

// 0.5 * (1 + tanh(u)) = 1 / (1 + exp(-2 u)). Far below zero the result is 0 within float32.
template <class V>
V gelu_tanh_vector(V x) {
  constexpr float kTwiceSqrt2OverPi = 1.59576912160573071f, kCubic = 0.044715f, kLowest = -16.0f;
  x = max_keeping_nan(V(kLowest), x);
  return gated(x, V(kTwiceSqrt2OverPi) * multiply_add(V(kCubic) * x * x, x, x));
}

template <class V>
V relu_vector(V x) {
  return max_keeping_nan(V(0.0f), x);
}

template <class V>
V silu_vector(V x) {
  constexpr float kLowest = -88.0f;
  x = max_keeping_nan(V(kLowest), x);
  return gated(x, x);
}

template <class V>
V relu6_vector(V x) {
  return min_keeping_nan(V(6.0f), relu_vector(x));
}

template <class V>
V hard_swish_vector(V x) {
  constexpr float kSixth = 1.0f / 6.0f, kLowest = -3.0f;
  x = max_keeping_nan(V(kLowest), x);
  return x * (relu6_vector(x + V(3.0f)) * V(kSixth));
}

template <class V>
[[gnu::noinline]] V activated_vector(Epilogue epilogue, V x) {
  switch (epilogue) {
    case Epilogue::kNone:
      break;
    case Epilogue::kGelu:
      return gelu_vector(x);
    case Epilogue::kGeluTanh:
      return gelu_tanh_vector(x);
    case Epilogue::kRelu:
      return relu_vector(x);
    case Epilogue::kSilu:
      return silu_vector(x);
    case Epilogue::kRelu6:
      return relu6_vector(x);
    case Epilogue::kHardSwish:
      return hard_swish_vector(x);
  }
  return x;
}

// The cheap epilogues of networks on images, done where the result still is in registers.
inline bool is_clamp(Epilogue epilogue) {
  return epilogue == Epilogue::kRelu || epilogue == Epilogue::kRelu6;
}
// Others leave x as it is.
template <class V>
V clamped(Epilogue epilogue, V x) {
  if (epilogue == Epilogue::kRelu) return relu_vector(x);
  return epilogue == Epilogue::kRelu6 ? relu6_vector(x) : x;
}
// activated_vector() without a call for the cheap ones.
template <class V>
[[gnu::always_inline]] inline V activated_fast(Epilogue epilogue, V x) {
  const bool cheap = epilogue == Epilogue::kNone || is_clamp(epilogue);
  return cheap ? clamped(epilogue, x) : activated_vector(epilogue, x);
}

// What x, in units of a clamped map, is rounded to.
template <class V>
Ints<V> clamped_units(V x) {
  const V rounder(12582912.0f);                          // 1.5 * 2^23
  const V low = xsimd::select(x > V(0.0f), x, V(0.0f));  // 0 for a NaN
  return bits_of(xsimd::min(low, V(kClampedSteps)) + rounder) - bits_of(rounder);
}

template <class V, V (*operation)(V)>
void for_each(float* x, std::size_t n) {
  std::size_t i = 0;
  for (; i + kLanes<V> <= n; i += kLanes<V>) store_vector(x + i, operation(load_vector<V>(x + i)));
  if (i < n) store_first(x + i, n - i, operation(load_first<V>(x + i, n - i, 0.0f)));
}

}  // namespace
}  // namespace splitee::kernels
