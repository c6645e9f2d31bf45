// int8 for x86 without VNNI, by pmaddwd: of the four bytes of a cell, the even and the odd ones are
// widened to 16 bits, and so are q0, q2, q1, q3 of a row of A. Nothing can saturate.
#pragma once

#include "kernels/simd/i8-inl.h"

namespace splitee::kernels {
namespace {

#if defined(__AVX512BW__)
inline __m512i load_ints(const std::byte* p) {
  return _mm512_loadu_si512(p);
}
inline __m512i even_bytes(__m512i v) {
  return _mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8);
}
inline __m512i odd_bytes(__m512i v) {
  return _mm512_srai_epi16(v, 8);
}
inline __m512i broadcast_ints(std::int32_t v) {
  return _mm512_set1_epi32(v);
}
inline __m512i multiply_pairs(__m512i a, __m512i b) {
  return _mm512_madd_epi16(a, b);
}
inline __m512 to_floats(__m512i v) {
  return _mm512_cvtepi32_ps(v);
}
// As 16 bits each, of every four the second and third changed over.
inline void store_narrow(std::byte* to, __m512i q) {
  q = _mm512_shuffle_epi32(q, _MM_PERM_DBCA);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(q));
}
#elif defined(__AVX2__)
inline __m256i load_ints(const std::byte* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline __m256i even_bytes(__m256i v) {
  return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8);
}
inline __m256i odd_bytes(__m256i v) {
  return _mm256_srai_epi16(v, 8);
}
inline __m256i broadcast_ints(std::int32_t v) {
  return _mm256_set1_epi32(v);
}
inline __m256i multiply_pairs(__m256i a, __m256i b) {
  return _mm256_madd_epi16(a, b);
}
inline __m256 to_floats(__m256i v) {
  return _mm256_cvtepi32_ps(v);
}
inline void store_narrow(std::byte* to, __m256i q) {
  q = _mm256_shuffle_epi32(q, 0b11011000);
  q = _mm256_permute4x64_epi64(_mm256_packs_epi32(q, q), 0b11011000);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(q));
}
#else
inline __m128i load_ints(const std::byte* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline __m128i even_bytes(__m128i v) {
  return _mm_srai_epi16(_mm_slli_epi16(v, 8), 8);
}
inline __m128i odd_bytes(__m128i v) {
  return _mm_srai_epi16(v, 8);
}
inline __m128i broadcast_ints(std::int32_t v) {
  return _mm_set1_epi32(v);
}
inline __m128i multiply_pairs(__m128i a, __m128i b) {
  return _mm_madd_epi16(a, b);
}
inline __m128 to_floats(__m128i v) {
  return _mm_cvtepi32_ps(v);
}
inline void store_narrow(std::byte* to, __m128i q) {
  q = _mm_shuffle_epi32(q, 0b11011000);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packs_epi32(q, q));
}
#endif
using IntRegister = decltype(load_ints(nullptr));

template <class VectorType, std::size_t kRowsOfTile, std::size_t kVectorsOfTile,
          std::size_t kStepsOfBlock>
struct I8Madd : I8Scales<VectorType> {
  using V = VectorType;
  static constexpr std::size_t kRows = kRowsOfTile, kVectors = kVectorsOfTile;
  static constexpr std::size_t kBlock = kStepsOfBlock;
  static constexpr std::size_t kDepth = 4, kCell = 4, kLeft = 8, kTrailer = sizeof(float);
  static constexpr std::int32_t kOffset = 0;
  struct Pair {
    IntRegister even, odd;
  };
  using Left = Pair;
  using Right = Pair;
  using Sum = IntRegister;
  static Left left(const std::byte* a) {
    std::int32_t pairs[2];
    __builtin_memcpy(pairs, a, sizeof pairs);
    return {broadcast_ints(pairs[0]), broadcast_ints(pairs[1])};
  }
  static Right right(const std::byte* b) {
    const IntRegister bytes = load_ints(b);
    return {even_bytes(bytes), odd_bytes(bytes)};
  }
  static Sum dot(const Left& a, const Right& b, Sum sum) {
    sum = (Sum)((Ints<V>)sum + (Ints<V>)multiply_pairs(a.even, b.even));
    return (Sum)((Ints<V>)sum + (Ints<V>)multiply_pairs(a.odd, b.odd));
  }
  static Sum begin(const std::byte*, std::size_t) { return Sum{}; }
  static Sum load(const float* c) { return load_ints(reinterpret_cast<const std::byte*>(c)); }
  static void store(float* c, Sum sum) { store_vector(c, vector_of<V>((Ints<V>)sum)); }
  static V value(Sum sum, const std::byte* trailer, std::size_t v, const std::byte* row) {
    return I8Scales<V>::scaled(V(to_floats(sum)), trailer, v, row);
  }
  static void store_left(std::byte* to, Ints<V> q) { store_narrow(to, (IntRegister)q); }
};

}  // namespace
}  // namespace splitee::kernels
