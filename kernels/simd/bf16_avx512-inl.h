// bfloat16 by AVX-512 BF16's dot product.
#pragma once

#include "kernels/simd/bf16-inl.h"

namespace splitee::kernels {
namespace {

template <std::size_t kRowsOfTile, std::size_t kVectorsOfTile, std::size_t kStepsOfBlock>
struct Bf16Avx512 : FloatSums<Vector<xsimd::avx512bw>> {
  static constexpr std::size_t kRows = kRowsOfTile, kVectors = kVectorsOfTile;
  static constexpr std::size_t kBlock = kStepsOfBlock;
  static constexpr std::size_t kDepth = 2, kCell = 4, kLeft = 4;
  static constexpr bool kWritesFixed = false;
  using Left = __m512i;
  using Right = __m512i;
  static Left left(const std::byte* a) {
    std::int32_t pair;
    __builtin_memcpy(&pair, a, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  static Right right(const std::byte* b) { return _mm512_loadu_si512(b); }
  static V dot(Left a, Right b, V sum) {
    return V(_mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b));
  }
  static V cells(const V (&rows)[2]) {
    const auto halves = (__m512i)_mm512_cvtne2ps_pbh(rows[1], rows[0]);
    const auto order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24,
                                        8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return V(_mm512_castsi512_ps(_mm512_permutexvar_epi16(order, halves)));
  }
  static void store_left(std::byte* to, V values) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(values));
  }
};

}  // namespace
}  // namespace splitee::kernels
