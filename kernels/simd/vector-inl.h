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

// Floats of a matrix that is kept as bytes, at a multiple of their size.
inline const float* floats_at(const std::byte* p) {
  return static_cast<const float*>(static_cast<const void*>(p));
}
inline float* floats_at(std::byte* p) {
  return static_cast<float*>(static_cast<void*>(p));
}

// The float at `p` in every lane.
template <class V>
V load_everywhere(const std::byte* p) {
#ifdef __arm__
  // GCC would load it into a core register, from where it takes long.
  return V(vld1q_dup_f32(floats_at(p)));
#else
  float value;
  __builtin_memcpy(&value, p, sizeof value);
  return V(value);
#endif
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

// `count` elements, however many.
template <class V>
void copy_floats(const float* from, std::size_t count, float* to) {
  for (; count >= kLanes<V>; count -= kLanes<V>, from += kLanes<V>, to += kLanes<V>) {
    store_vector(to, load_vector<V>(from));
  }
  if (count != 0) store_first(to, count, load_first<V>(from, count, 0.0f));
}

// a * b + c, rounded once where the target can. xsimd 8.1 has no fused form for AVX-512.
template <class V>
V multiply_add(V a, V b, V c) {
#ifdef __AVX512F__
  if constexpr (kIsAvx512<V>) return V(_mm512_fmadd_ps(a, b, c));
#endif
  return xsimd::fma(a, b, c);
}

// a / b, rounded once. 32-bit NEON cannot divide: xsimd multiplies by an estimate of 1 / b, which
// is off in the last places and makes a NaN of infinities. There the compiler does it lane by lane.
template <class V>
V divide(V a, V b) {
#ifdef __arm__
  using Register = typename V::register_type;
  return V(static_cast<Register>(a) / static_cast<Register>(b));
#else
  return a / b;
#endif
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

// The lanes of a and b in turn: of their lower halves, of their upper halves.
template <class I>
void interleave(I a, I b, I& low, I& high) {
  if constexpr (sizeof(I) == 16) {
    low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  } else if constexpr (sizeof(I) == 32) {
    low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  } else {
    low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    high =
        __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  }
}

// Rows of any 4 bytes at `in`, as many as V has lanes and as long, to columns at `out`; strides in
// bytes. Interleaving rows i and i + lanes / 2, over and over, transposes.
template <class V>
void transpose(const std::byte* in, std::size_t in_stride, std::byte* out, std::size_t out_stride) {
  constexpr std::size_t kSize = kLanes<V>;
  Ints<V> rows[kSize], next[kSize];
#pragma GCC unroll 16
  for (std::size_t r = 0; r < kSize; ++r) {
    __builtin_memcpy(&rows[r], in + r * in_stride, sizeof rows[r]);
  }
#pragma GCC unroll 4
  for (std::size_t stage = 1; stage < kSize; stage *= 2) {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kSize / 2; ++i) {
      interleave(rows[i], rows[i + kSize / 2], next[2 * i], next[2 * i + 1]);
    }
#pragma GCC unroll 16
    for (std::size_t r = 0; r < kSize; ++r) rows[r] = next[r];
  }
#pragma GCC unroll 16
  for (std::size_t r = 0; r < kSize; ++r) {
    __builtin_memcpy(out + r * out_stride, &rows[r], sizeof rows[r]);
  }
}

}  // namespace
}  // namespace splitee::kernels
