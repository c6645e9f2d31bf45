// int8 for AVX-512 VNNI: vpdpbusd multiplies unsigned by signed bytes, so rows of A hold q + 128,
// and the sums begin at -128 times the sum of W's row.
#pragma once

#include "kernels/simd/i8-inl.h"

namespace splitee::kernels {
namespace {

template <std::size_t kRowsOfTile, std::size_t kVectorsOfTile, std::size_t kStepsOfBlock>
struct I8Vnni : I8Scales<Vector<xsimd::avx512bw>> {
  using V = Vector<xsimd::avx512bw>;
  static constexpr std::size_t kRows = kRowsOfTile, kVectors = kVectorsOfTile;
  static constexpr std::size_t kBlock = kStepsOfBlock;
  static constexpr std::size_t kDepth = 4, kCell = 4, kLeft = 4;
  static constexpr std::size_t kTrailer = sizeof(float) + sizeof(std::int32_t);
  using Left = __m512i;
  using Right = __m512i;
  using Sum = __m512i;
  static Left left(const std::byte* a) {
    std::int32_t bytes;
    __builtin_memcpy(&bytes, a, sizeof bytes);
    return _mm512_set1_epi32(bytes);
  }
  static Right right(const std::byte* b) { return _mm512_loadu_si512(b); }
  static Sum dot(Left a, Right b, Sum sum) { return _mm512_dpbusd_epi32(sum, a, b); }
  static Sum begin(const std::byte* trailer, std::size_t v) {
    return _mm512_loadu_si512(trailer + kVectors * 64 + v * 64);
  }
  static Sum load(const float* c) { return _mm512_loadu_si512(c); }
  static void store(float* c, Sum sum) { _mm512_storeu_si512(c, sum); }
  static V value(Sum sum, const std::byte* trailer, std::size_t v, const std::byte* row) {
    return I8Scales<V>::scaled(V(_mm512_cvtepi32_ps(sum)), trailer, v, row);
  }
  static V fixed(Sum sum, const std::byte* trailer, std::size_t v, const std::byte* row) {
    return I8Scales<V>::scaled(V(_mm512_cvtepi32_ps(sum)), trailer, v, row, kFixedOfOne);
  }

  static constexpr std::int32_t kOffset = -128, kByteZero = 128;
  // Four vectors at once, 64 bytes.
  static void store_lefts(std::byte* to, const Ints<V> (&q)[4]) {
    const __m512i low = _mm512_packs_epi32((__m512i)q[0], (__m512i)q[1]);
    const __m512i high = _mm512_packs_epi32((__m512i)q[2], (__m512i)q[3]);
    const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    const __m512i bytes = _mm512_permutexvar_epi32(order, _mm512_packs_epi16(low, high));
    _mm512_storeu_si512(to, _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)));
  }
  static void store_units(std::byte* to, V units) {  // q + 128 is the unit itself
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm512_cvtepi32_epi8((__m512i)rounded_up_to(units, kByteSteps)));
  }
  static void store_left(std::byte* to, Ints<V> q) {
    const __m128i bytes = _mm512_cvtepi32_epi8((__m512i)q);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_xor_si128(bytes, _mm_set1_epi8(-128)));
  }
};

}  // namespace
}  // namespace splitee::kernels
