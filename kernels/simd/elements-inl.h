// Operations on elements, in place: activations and tanh.
#pragma once

#include "kernels/kernels.h"
#include "kernels/simd/math-inl.h"

namespace splitee::kernels {
namespace {

template <class V>
V gelu_vector(V x) {
  return x * (V(0.5f) + centred_normal_cdf(x));
}

// x / (1 + exp(-exponent)).
template <class V>
V gated(V x, V exponent) {
  constexpr float kLargest = 88.0f;  // where exp is still finite
  return divide(x, V(1.0f) + exp_vector(-max_keeping_nan(V(-kLargest), exponent)));
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

// x rounded to an integer of 0 .. most, 0 for a NaN.
template <class V>
Ints<V> rounded_up_to(V x, float most) {
#ifdef __AVX512F__
  // The maximum's second operand stands where the first is a NaN.
  const __m512 positive = _mm512_max_ps(x, _mm512_setzero_ps());
  return (Ints<V>)_mm512_cvtps_epi32(_mm512_min_ps(positive, _mm512_set1_ps(most)));
#else
  const V rounder(12582912.0f);  // 1.5 * 2^23
  const V positive = xsimd::select(x > V(0.0f), x, V(0.0f));
  return bits_of(xsimd::min(positive, V(most)) + rounder) - bits_of(rounder);
#endif
}

// A vector of a fixed map, from what is to be rounded; and back.
template <class V>
void store_fixed(std::uint16_t* p, V x) {
  const Ints<V> values = rounded_up_to(x, kFixedSteps);
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16((__m512i)values));
#elif defined(__AVX2__)
  const __m128i low = _mm256_castsi256_si128((__m256i)values);
  const __m128i high = _mm256_extracti128_si256((__m256i)values, 1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(low, high));
#elif defined(__ARM_NEON)
  vst1_u16(p, vmovn_u32((uint32x4_t)values));
#else
  const __m128i bits = (__m128i)values;
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(bits, bits));
#endif
}
template <class V>
V load_fixed(const std::uint16_t* p) {
#if defined(__AVX512F__)
  const __m256i values = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return V(_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(values)));
#elif defined(__AVX2__)
  const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return V(_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(values)));
#elif defined(__ARM_NEON)
  return V(vcvtq_f32_u32(vmovl_u16(vld1_u16(p))));
#else
  const __m128i values = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return V(_mm_cvtepi32_ps(_mm_cvtepu16_epi32(values)));
#endif
}

template <class V, V (*operation)(V)>
void for_each(float* x, std::size_t n) {
  std::size_t i = 0;
  for (; i + kLanes<V> <= n; i += kLanes<V>) store_vector(x + i, operation(load_vector<V>(x + i)));
  if (i < n) store_first(x + i, n - i, operation(load_first<V>(x + i, n - i, 0.0f)));
}

template <class V, V (*operation)(V)>
void each_row(float* c, std::size_t c_stride, std::size_t rows, std::size_t cols) {
  for (std::size_t r = 0; r < rows; ++r) for_each<V, operation>(c + r * c_stride, cols);
}

template <class V>
void activate_rows(Epilogue epilogue, float* c, std::size_t c_stride, std::size_t rows,
                   std::size_t cols) {
  switch (epilogue) {
    case Epilogue::kNone:
      return;
    case Epilogue::kGelu:
      return each_row<V, gelu_vector<V>>(c, c_stride, rows, cols);
    case Epilogue::kGeluTanh:
      return each_row<V, gelu_tanh_vector<V>>(c, c_stride, rows, cols);
    case Epilogue::kRelu:
      return each_row<V, relu_vector<V>>(c, c_stride, rows, cols);
    case Epilogue::kSilu:
      return each_row<V, silu_vector<V>>(c, c_stride, rows, cols);
    case Epilogue::kRelu6:
      return each_row<V, relu6_vector<V>>(c, c_stride, rows, cols);
    case Epilogue::kHardSwish:
      return each_row<V, hard_swish_vector<V>>(c, c_stride, rows, cols);
  }
}

}  // namespace
}  // namespace splitee::kernels
