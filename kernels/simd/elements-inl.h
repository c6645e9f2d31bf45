// Operations on elements, in place: GELU and tanh.
#pragma once

#include "kernels/simd/math-inl.h"

namespace splitee::kernels {
namespace {

template <class V>
V gelu_vector(V x) {
  constexpr float kSqrtHalf = 0.70710678118654752f;
  return x * V(0.5f) * (V(1.0f) + erf_vector(x * V(kSqrtHalf)));
}

template <class V, V (*operation)(V)>
void for_each(float* x, std::size_t n) {
  std::size_t i = 0;
  for (; i + kLanes<V> <= n; i += kLanes<V>) store_vector(x + i, operation(load_vector<V>(x + i)));
  if (i < n) store_first(x + i, n - i, operation(load_first<V>(x + i, n - i, 0.0f)));
}

}  // namespace
}  // namespace splitee::kernels
