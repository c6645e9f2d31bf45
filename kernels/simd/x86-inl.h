// Integers of a register as wide as the target's vectors, once for SSE, AVX2 and AVX-512.
#pragma once

#include "kernels/simd/vector-inl.h"

namespace splitee::kernels {
namespace {

// store_bytes: the lowest byte of each. pack_bytes: of values of -128 .. 127, those of a first.
#if defined(__AVX512BW__)
using IntRegister = __m512i;
inline __m512i load_ints(const void* p) {
  return _mm512_loadu_si512(p);
}
inline __m512i broadcast_ints(std::int32_t v) {
  return _mm512_set1_epi32(v);
}
inline __m512 to_floats(__m512i v) {
  return _mm512_cvtepi32_ps(v);
}
inline void store_bytes(std::byte* to, __m512i v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(v));
}
inline void store_ints(void* p, __m512i v) {
  _mm512_storeu_si512(p, v);
}
inline __m512i pack_bytes(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  return _mm512_permutexvar_epi32(
      order, _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)));
}
#elif defined(__AVX2__)
using IntRegister = __m256i;
inline __m256i load_ints(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
inline __m256i broadcast_ints(std::int32_t v) {
  return _mm256_set1_epi32(v);
}
inline __m256 to_floats(__m256i v) {
  return _mm256_cvtepi32_ps(v);
}
inline void store_bytes(std::byte* to, __m256i v) {
  const __m256i bytes = _mm256_shuffle_epi8(v, _mm256_set1_epi32(0x0c080400));
  const __m128i low = _mm256_castsi256_si128(bytes), high = _mm256_extracti128_si256(bytes, 1);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_unpacklo_epi32(low, high));
}
inline void store_ints(void* p, __m256i v) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), v);
}
inline __m256i pack_bytes(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i order = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
  return _mm256_permutevar8x32_epi32(
      _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d)), order);
}
#else
using IntRegister = __m128i;
inline __m128i load_ints(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
inline __m128i broadcast_ints(std::int32_t v) {
  return _mm_set1_epi32(v);
}
inline __m128 to_floats(__m128i v) {
  return _mm_cvtepi32_ps(v);
}
inline void store_bytes(std::byte* to, __m128i v) {
  _mm_storeu_si32(to, _mm_shuffle_epi8(v, _mm_set1_epi32(0x0c080400)));
}
inline void store_ints(void* p, __m128i v) {
  _mm_storeu_si128(static_cast<__m128i*>(p), v);
}
inline __m128i pack_bytes(__m128i a, __m128i b, __m128i c, __m128i d) {
  return _mm_packs_epi16(_mm_packs_epi32(a, b), _mm_packs_epi32(c, d));
}
#endif

}  // namespace
}  // namespace splitee::kernels
