// int8 for x86 without VNNI, by pmaddubsw, which multiplies unsigned by signed bytes: |w| times q
// with the sign of w. A pair of products is at most 2 * 128 * 127, so that its 16 bits do not
// saturate; pmaddwd by ones adds pairs to int32.
#pragma once

#include "kernels/simd/i8-inl.h"
#include "kernels/simd/x86-inl.h"

namespace splitee::kernels {
namespace {

// `with_sign_of(q, w)` makes q the factor of |w|: its sign is changed where w is negative; where w
// is zero it does not matter.
#if defined(__AVX512BW__)
struct Cells {
  __m512i magnitude;
  __mmask64 negative;
};
inline Cells split_cells(__m512i w) {
  return {_mm512_abs_epi8(w), _mm512_movepi8_mask(w)};
}
inline __m512i with_sign_of(__m512i q, const Cells& w) {
  return _mm512_mask_sub_epi8(q, w.negative, _mm512_setzero_si512(), q);
}
inline __m512i add_quads(__m512i unsigned_bytes, __m512i bytes) {
  const __m512i pairs = _mm512_maddubs_epi16(unsigned_bytes, bytes);
  return _mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}
#elif defined(__AVX2__)
struct Cells {
  __m256i magnitude, w;
};
inline Cells split_cells(__m256i w) {
  return {_mm256_abs_epi8(w), w};
}
inline __m256i with_sign_of(__m256i q, const Cells& w) {
  return _mm256_sign_epi8(q, w.w);
}
inline __m256i add_quads(__m256i unsigned_bytes, __m256i bytes) {
  const __m256i pairs = _mm256_maddubs_epi16(unsigned_bytes, bytes);
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#else
struct Cells {
  __m128i magnitude, w;
};
inline Cells split_cells(__m128i w) {
  return {_mm_abs_epi8(w), w};
}
inline __m128i with_sign_of(__m128i q, const Cells& w) {
  return _mm_sign_epi8(q, w.w);
}
inline __m128i add_quads(__m128i unsigned_bytes, __m128i bytes) {
  return _mm_madd_epi16(_mm_maddubs_epi16(unsigned_bytes, bytes), _mm_set1_epi16(1));
}
#endif

template <class VectorType, std::size_t kRowsOfTile, std::size_t kVectorsOfTile,
          std::size_t kStepsOfBlock>
struct I8Maddubs : I8Scales<VectorType> {
  using V = VectorType;
  static constexpr std::size_t kRows = kRowsOfTile, kVectors = kVectorsOfTile;
  static constexpr std::size_t kBlock = kStepsOfBlock;
  static constexpr std::size_t kDepth = 4, kCell = 4, kLeft = 4, kTrailer = sizeof(float);
  static constexpr std::int32_t kOffset = 0, kByteZero = 127;
  using Left = IntRegister;
  using Right = Cells;
  using Sum = IntRegister;
  static Left left(const std::byte* a) {
    std::int32_t bytes;
    __builtin_memcpy(&bytes, a, sizeof bytes);
    return broadcast_ints(bytes);
  }
  static Right right(const std::byte* b) { return split_cells(load_ints(b)); }
  static Sum dot(Left a, const Right& b, Sum sum) {
    return (Sum)((Ints<V>)sum + (Ints<V>)add_quads(b.magnitude, with_sign_of(a, b)));
  }
  static Sum begin(const std::byte*, std::size_t) { return Sum{}; }
  static Sum load(const float* c) { return load_ints(c); }
  static void store(float* c, Sum sum) { store_vector(c, vector_of<V>((Ints<V>)sum)); }
  static V value(Sum sum, const std::byte* trailer, std::size_t v, const std::byte* row) {
    return I8Scales<V>::scaled(V(to_floats(sum)), trailer, v, row);
  }
  static V fixed(Sum sum, const std::byte* trailer, std::size_t v, const std::byte* row) {
    return I8Scales<V>::scaled(V(to_floats(sum)), trailer, v, row, kFixedOfOne);
  }
  static void store_lefts(std::byte* to, const Ints<V> (&q)[4]) {
    store_ints(
        to, pack_bytes((IntRegister)q[0], (IntRegister)q[1], (IntRegister)q[2], (IntRegister)q[3]));
  }
  static void store_units(std::byte* to, V units) {
    store_left(to, rounded_up_to(units, kByteSteps) - kByteZero);
  }
  static void store_left(std::byte* to, Ints<V> q) { store_bytes(to, (IntRegister)q); }
};

}  // namespace
}  // namespace splitee::kernels
