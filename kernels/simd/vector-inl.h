// What the kernels need of a vector of floats, on top of xsimd 8.1 to 14.3: the names below are the
// same whatever the version. Included by target.cc alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include <xsimd/xsimd.hpp>

namespace splitee::kernels {
namespace {

template <class Arch>
using Vector = xsimd::batch<float, Arch>;

// Four lanes, the unit of transposing on every target.
#ifdef __aarch64__
using Quad = Vector<xsimd::neon64>;
#else
using Quad = Vector<xsimd::sse4_2>;
#endif

template <class V>
constexpr std::size_t kLanes = V::size;

template <class V>
constexpr bool kIsAvx512 = kLanes<V> == 16;

// The same lanes as 32-bit integers, in GCC's vector types, because xsimd's casts differ between
// versions.
template <std::size_t kCount>
struct IntsOf;
template <>
struct IntsOf<4> {
  using Type = std::int32_t __attribute__((vector_size(16)));
};
template <>
struct IntsOf<8> {
  using Type = std::int32_t __attribute__((vector_size(32)));
};
template <>
struct IntsOf<16> {
  using Type = std::int32_t __attribute__((vector_size(64)));
};
template <class V>
using Ints = typename IntsOf<kLanes<V>>::Type;

template <class V>
Ints<V> bits_of(V v) {
  return (Ints<V>)(typename V::register_type)v;
}
template <class V>
V vector_of(Ints<V> bits) {
  return V((typename V::register_type)bits);
}

template <class V>
V load_vector(const float* p) {
  return V::load_unaligned(p);
}

template <class V>
void store_vector(float* p, V v) {
  v.store_unaligned(p);
}

// The first `count` < kLanes elements; the other lanes hold `fill`.
template <class V>
V load_first(const float* p, std::size_t count, float fill) {
#ifdef __AVX512F__
  if constexpr (kIsAvx512<V>) {
    const auto mask = static_cast<__mmask16>((1u << count) - 1);
    return V(_mm512_mask_loadu_ps(_mm512_set1_ps(fill), mask, p));
  }
#endif
  float lanes[kLanes<V>];
  for (std::size_t i = 0; i < kLanes<V>; ++i) lanes[i] = i < count ? p[i] : fill;
  return load_vector<V>(lanes);
}

// As many of `count` elements as there are lanes; zeros in the lanes left.
template <class V>
V load_up_to(const float* p, std::size_t count) {
  return count >= kLanes<V> ? load_vector<V>(p) : load_first<V>(p, count, 0.0f);
}

template <class V>
void store_first(float* p, std::size_t count, V v) {
#ifdef __AVX512F__
  if constexpr (kIsAvx512<V>) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), v);
    return;
  }
#endif
  float lanes[kLanes<V>];
  store_vector(lanes, v);
  for (std::size_t i = 0; i < count; ++i) p[i] = lanes[i];
}

// a * b + c, rounded once where the target can. xsimd 8.1 has no fused form for AVX-512.
template <class V>
V multiply_add(V a, V b, V c) {
#ifdef __AVX512F__
  if constexpr (kIsAvx512<V>) return V(_mm512_fmadd_ps(a, b, c));
#endif
  return xsimd::fma(a, b, c);
}

// NaN in `b` is kept, on every target: put the data there.
template <class V>
V max_keeping_nan(V a, V b) {
  return xsimd::max(a, b);
}
template <class V>
V min_keeping_nan(V a, V b) {
  return xsimd::min(a, b);
}

template <class T>
T larger(T a, T b) {
  return a > b ? a : b;
}

// Horizontal operations in GCC's vector types: xsimd 8.1 has no maximum, and its sum has another
// name than later versions'.
template <bool kSum>
float fold4(float __attribute__((vector_size(16))) v) {
  const auto half = __builtin_shufflevector(v, v, 2, 3, 0, 1);
  const auto pair = kSum ? v + half : larger(v, half);
  return kSum ? pair[0] + pair[1] : larger(pair[0], pair[1]);
}
template <bool kSum, class V>
float fold(V v) {
  const typename V::register_type r = v;
  if constexpr (kLanes<V> == 4) {
    return fold4<kSum>(r);
  } else if constexpr (kLanes<V> == 8) {
    const auto low = __builtin_shufflevector(r, r, 0, 1, 2, 3);
    const auto high = __builtin_shufflevector(r, r, 4, 5, 6, 7);
    return fold4<kSum>(kSum ? low + high : larger(low, high));
  } else {
    const auto low = __builtin_shufflevector(r, r, 0, 1, 2, 3, 4, 5, 6, 7);
    const auto high = __builtin_shufflevector(r, r, 8, 9, 10, 11, 12, 13, 14, 15);
    const auto both = kSum ? low + high : larger(low, high);
    return fold<kSum>(Vector<xsimd::avx>(both));
  }
}

template <class V>
float sum_lanes(V v) {
  return fold<true>(v);
}
template <class V>
float max_lanes(V v) {
  return fold<false>(v);
}

inline Quad load_quad(const std::byte* p) {
  return load_vector<Quad>(reinterpret_cast<const float*>(p));
}
inline void store_quad(std::byte* p, Quad v) {
  store_vector(reinterpret_cast<float*>(p), v);
}

// Rows (4, 4) of any 4 bytes at `in` to columns at `out`; strides in bytes.
inline void transpose4(const std::byte* in, std::size_t in_stride, std::byte* out,
                       std::size_t out_stride) {
  const Quad r0 = load_quad(in);
  const Quad r1 = load_quad(in + in_stride);
  const Quad r2 = load_quad(in + 2 * in_stride);
  const Quad r3 = load_quad(in + 3 * in_stride);
  const Quad low02 = xsimd::zip_lo(r0, r2);
  const Quad high02 = xsimd::zip_hi(r0, r2);
  const Quad low13 = xsimd::zip_lo(r1, r3);
  const Quad high13 = xsimd::zip_hi(r1, r3);
  store_quad(out, xsimd::zip_lo(low02, low13));
  store_quad(out + out_stride, xsimd::zip_hi(low02, low13));
  store_quad(out + 2 * out_stride, xsimd::zip_lo(high02, high13));
  store_quad(out + 3 * out_stride, xsimd::zip_hi(high02, high13));
}

}  // namespace
}  // namespace splitee::kernels
