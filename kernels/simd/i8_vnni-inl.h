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

  static constexpr std::int32_t kOffset = -128;
  static void store_left(std::byte* to, Ints<V> q) {
    const __m128i bytes = _mm512_cvtepi32_epi8((__m512i)q);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_xor_si128(bytes, _mm_set1_epi8(-128)));
  }
};

}  // namespace
}  // namespace splitee::kernels
