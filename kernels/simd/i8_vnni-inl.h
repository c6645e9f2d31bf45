// int8 for x86 with VNNI, of AVX-512 or of AVX2: vpdpbusd multiplies unsigned by signed bytes, so
// rows of A hold q + 128, and the sums begin at -128 times the sum of W's row.
#pragma once

#include "kernels/simd/i8-inl.h"
#include "kernels/simd/x86-inl.h"

namespace splitee::kernels {
namespace {

#ifdef __AVX512VNNI__
inline __m512i add_products(__m512i sum, __m512i unsigned_bytes, __m512i bytes) {
  return _mm512_dpbusd_epi32(sum, unsigned_bytes, bytes);
}
// q + 128 as a byte for q in -128 .. 127, and back.
inline __m512i flip_signs(__m512i bytes) {
  return _mm512_xor_si512(bytes, _mm512_set1_epi8(-128));
}
#else
inline __m256i add_products(__m256i sum, __m256i unsigned_bytes, __m256i bytes) {
  return _mm256_dpbusd_avx_epi32(sum, unsigned_bytes, bytes);
}
inline __m256i flip_signs(__m256i bytes) {
  return _mm256_xor_si256(bytes, _mm256_set1_epi8(-128));
}
#endif

template <class VectorType, std::size_t kRowsOfTile, std::size_t kVectorsOfTile,
          std::size_t kStepsOfBlock>
struct I8Vnni : I8Scales<VectorType> {
  using V = VectorType;
  static constexpr std::size_t kRows = kRowsOfTile, kVectors = kVectorsOfTile;
  static constexpr std::size_t kBlock = kStepsOfBlock;
  static constexpr std::size_t kDepth = 4, kCell = 4, kLeft = 4;
  static constexpr std::size_t kTrailer = sizeof(float) + sizeof(std::int32_t);
  static constexpr std::int32_t kOffset = -128, kByteZero = 128;
  using Left = IntRegister;
  using Right = IntRegister;
  using Sum = IntRegister;
  static Left left(const std::byte* a) {
    std::int32_t bytes;
    __builtin_memcpy(&bytes, a, sizeof bytes);
    return broadcast_ints(bytes);
  }
  static Right right(const std::byte* b) { return load_ints(b); }
  static Sum dot(Left a, Right b, Sum sum) { return add_products(sum, a, b); }
  static Sum begin(const std::byte* trailer, std::size_t v) {
    return load_ints(trailer + (kVectors + v) * sizeof(IntRegister));
  }
  static Sum load(const float* c) { return load_ints(c); }
  static void store(float* c, Sum sum) { store_ints(c, sum); }
  static V value(Sum sum, const std::byte* trailer, std::size_t v, const std::byte* row) {
    return I8Scales<V>::scaled(V(to_floats(sum)), trailer, v, row);
  }
  static V fixed(Sum sum, const std::byte* trailer, std::size_t v, const std::byte* row) {
    return I8Scales<V>::scaled(V(to_floats(sum)), trailer, v, row, kFixedOfOne);
  }
  static void store_lefts(std::byte* to, const Ints<V> (&q)[4]) {
    store_ints(to, flip_signs(pack_bytes((IntRegister)q[0], (IntRegister)q[1], (IntRegister)q[2],
                                         (IntRegister)q[3])));
  }
  static void store_units(std::byte* to, V units) {  // q + 128 is the unit itself
    store_bytes(to, (IntRegister)rounded_up_to(units, kByteSteps));
  }
  static void store_left(std::byte* to, Ints<V> q) { store_bytes(to, (IntRegister)(q + 128)); }
};

}  // namespace
}  // namespace splitee::kernels
