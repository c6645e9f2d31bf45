// exp, the normal distribution and tanh of a vector. The polynomials are minimax fits (iteratively
// reweighted least squares in float64) made for these intervals; the errors given are those of the
// fit, to which float32 arithmetic adds one or two units in the last place.
#pragma once

#include "kernels/simd/vector-inl.h"

namespace splitee::kernels {
namespace {

template <class V>
V polynomial(V, float c0) {
  return V(c0);
}
// c0 + c1 x + c2 x^2 + ..., by Horner's rule.
template <class V, class... Rest>
V polynomial(V x, float c0, Rest... rest) {
  return multiply_add(polynomial(x, rest...), x, V(c0));
}

// 2^n, where n is in the low bits of `shifted`; 0 for n = -127.
template <class V>
V power_of_two(V shifted) {
  return vector_of<V>((bits_of(shifted) + 127) << 23);
}

// exp(x) for x <= 88, relative error 3.1e-9; what would be below the smallest normal number is 0.
// x = n ln 2 + r with |r| <= ln 2 / 2, exp(x) = 2^n exp(r).
template <class V>
V exp_vector(V x) {
  constexpr float kLowest = -88.0f;  // n = -127, where the exponent bits, and so 2^n, become 0
  constexpr float kLog2E = 1.44269504f;
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  x = max_keeping_nan(V(kLowest), x);
  // Adding 1.5 * 2^23 rounds to an integer, left in the low bits of the sum.
  constexpr float kRounder = 12582912.0f;
  const V shifted = multiply_add(x, V(kLog2E), V(kRounder));
  const V n = shifted - V(kRounder);
  V r = multiply_add(n, V(-kLn2High), x);
  r = multiply_add(n, V(-kLn2Low), r);
  const V tail = polynomial(r, 0.49999994f, 0.16666521f, 0.04166839f, 0.008368745f, 0.001381454f);
  const V exp_r = multiply_add(r * r, tail, r) + V(1.0f);
  return exp_r * power_of_two(shifted);
}

// Phi(x) - 1/2 of the normal distribution, erf(x / sqrt(2)) / 2: absolute error 7.2e-8. x P(x^2) /
// Q(x^2) up to 5.3, from where on it is held at the 1/2 that it rounds to.
template <class V>
V centred_normal_cdf(V x) {
  constexpr float kSquare = 5.3f * 5.3f;
  const V u = min_keeping_nan(V(kSquare), x * x);
  const V p = polynomial(u, 0.3989418f, 0.05207094f, 0.0056994366f, 0.00034162847f, 6.264907e-06f);
  const V q =
      polynomial(u, 1.0f, 0.29718184f, 0.03883007f, 0.0028635133f, 0.00012253581f, 5.2983359e-07f);
  return max_keeping_nan(V(-0.5f), min_keeping_nan(V(0.5f), divide(x * p, q)));
}

// tanh(x): x + x^3 P(x^2), relative error 4.4e-9, up to 0.625; above that 1 - 2 / (exp(2 x) + 1).
// Of |x|, with the sign of x, which keeps that of a zero.
template <class V>
V tanh_vector(V x) {
  const V size = xsimd::abs(x);
  const V u = size * size;
  const V p = polynomial(u, -0.3333328f, 0.13331442f, -0.053739715f, 0.020639088f, -0.0057049873f);
  const V small = multiply_add(size * u, p, size);
  const V twice = min_keeping_nan(V(40.0f), size + size);
  const V large = V(1.0f) - divide(V(2.0f), exp_vector(twice) + V(1.0f));
  return xsimd::select(size < V(0.625f), small, large) | xsimd::bitofsign(x);
}

}  // namespace
}  // namespace splitee::kernels
