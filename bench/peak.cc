#include "bench/peak.h"

#ifdef __x86_64__
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace splitee::bench {
namespace {

// Twelve named sums, each kept in its register by an empty asm: enough to hide the latency of every
// CPU's multiply-and-add, and few enough for sixteen registers. A macro, since a function of the
// baseline cannot be written with wider vectors.
#define SPLITEE_STEP(REGISTER, MULTIPLY_ADD, SUM) \
  SUM = MULTIPLY_ADD(x, x, SUM);                  \
  asm volatile("" : REGISTER(SUM))
#define SPLITEE_PEAK(VECTOR, ONE, REGISTER, MULTIPLY_ADD, BYTES)               \
  const VECTOR x = ONE;                                                        \
  VECTOR a = x, b = x, c = x, d = x, e = x, f = x, g = x, h = x, i = x, j = x; \
  VECTOR k = x, l = x;                                                         \
  for (std::int64_t turn = 0; turn < turns; ++turn) {                          \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, a);                                   \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, b);                                   \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, c);                                   \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, d);                                   \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, e);                                   \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, f);                                   \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, g);                                   \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, h);                                   \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, i);                                   \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, j);                                   \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, k);                                   \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, l);                                   \
  }                                                                            \
  return turns * 12 * 2 * static_cast<std::int64_t>(sizeof(VECTOR) / BYTES)

#ifdef __x86_64__
__attribute__((target("avx512f"))) std::int64_t peak_avx512(std::int64_t turns) {
  SPLITEE_PEAK(__m512, _mm512_set1_ps(1.0f), "+v", _mm512_fmadd_ps, 4);
}
__attribute__((target("avx2,fma"))) std::int64_t peak_avx2(std::int64_t turns) {
  SPLITEE_PEAK(__m256, _mm256_set1_ps(1.0f), "+x", _mm256_fmadd_ps, 4);
}
// Without a fused form: a product, kept apart from the last turn's by the empty asm, and a sum.
__m128 multiply_then_add(__m128 a, __m128 b, __m128 c) {
  asm volatile("" : "+x"(a));
  return _mm_add_ps(_mm_mul_ps(a, b), c);
}
std::int64_t peak_sse(std::int64_t turns) {
  SPLITEE_PEAK(__m128, _mm_set1_ps(1.0f), "+x", multiply_then_add, 4);
}
// bf16: pairs of products added to float32.
__attribute__((target("avx512f,avx512bf16"))) __m512 dot_bf16(__m512 a, __m512 b, __m512 c) {
  return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}
__attribute__((target("avx512f,avx512bf16"))) std::int64_t peak_bf16(std::int64_t turns) {
  SPLITEE_PEAK(__m512, _mm512_set1_ps(1.0f), "+v", dot_bf16, 2);
}
// int8: four products of bytes added to an int32; without VNNI two of 16 bits, and a sum.
__attribute__((target("avx512f,avx512vnni"))) __m512i dot_i8(__m512i a, __m512i b, __m512i c) {
  return _mm512_dpbusd_epi32(c, a, b);
}
__attribute__((target("avx512f,avx512vnni"))) std::int64_t peak_vnni(std::int64_t turns) {
  SPLITEE_PEAK(__m512i, _mm512_set1_epi32(1), "+v", dot_i8, 1);
}
__attribute__((target("avx512bw"))) __m512i madd512(__m512i a, __m512i b, __m512i c) {
  asm volatile("" : "+v"(a));
  return _mm512_add_epi32(c, _mm512_madd_epi16(a, b));
}
__attribute__((target("avx512bw"))) std::int64_t peak_madd512(std::int64_t turns) {
  SPLITEE_PEAK(__m512i, _mm512_set1_epi32(1), "+v", madd512, 2);
}
__attribute__((target("avx2"))) __m256i madd256(__m256i a, __m256i b, __m256i c) {
  asm volatile("" : "+x"(a));
  return _mm256_add_epi32(c, _mm256_madd_epi16(a, b));
}
__attribute__((target("avx2"))) std::int64_t peak_madd256(std::int64_t turns) {
  SPLITEE_PEAK(__m256i, _mm256_set1_epi32(1), "+x", madd256, 2);
}
__m128i madd128(__m128i a, __m128i b, __m128i c) {
  asm volatile("" : "+x"(a));
  return _mm_add_epi32(c, _mm_madd_epi16(a, b));
}
std::int64_t peak_madd128(std::int64_t turns) {
  SPLITEE_PEAK(__m128i, _mm_set1_epi32(1), "+x", madd128, 2);
}
#elif defined(__aarch64__)
float32x4_t multiply_add(float32x4_t a, float32x4_t b, float32x4_t c) {
  return vfmaq_f32(c, a, b);
}
std::int64_t peak_neon(std::int64_t turns) {
  SPLITEE_PEAK(float32x4_t, vdupq_n_f32(1.0f), "+w", multiply_add, 4);
}
int32x4_t add_products(int8x16_t a, int8x16_t b, int32x4_t c) {
  asm volatile("" : "+w"(a));
  return vpadalq_s16(c, vmlal_high_s8(vmull_s8(vget_low_s8(a), vget_low_s8(b)), a, b));
}
std::int64_t peak_widening(std::int64_t turns) {
  SPLITEE_PEAK(
      int32x4_t, vdupq_n_s32(1), "+w",
      [](int32x4_t a, int32x4_t b, int32x4_t sum) {
        return add_products(vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b), sum);
      },
      1);
}
__attribute__((target("arch=armv8.2-a+dotprod"))) int32x4_t sdot(int32x4_t a, int32x4_t b,
                                                                 int32x4_t c) {
  return vdotq_s32(c, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b));
}
__attribute__((target("arch=armv8.2-a+dotprod"))) std::int64_t peak_sdot(std::int64_t turns) {
  SPLITEE_PEAK(int32x4_t, vdupq_n_s32(1), "+w", sdot, 1);
}
#endif

}  // namespace

std::int64_t run_peak(std::string_view target, std::string_view arithmetic, std::int64_t turns) {
  const bool i8 = arithmetic == "i8";
#ifdef __x86_64__
  if (target == "avx512bf16" && arithmetic == "bf16") return peak_bf16(turns);
  if ((target == "avx512bf16" || target == "avx512vnni") && i8) return peak_vnni(turns);
  if (target.starts_with("avx512")) return i8 ? peak_madd512(turns) : peak_avx512(turns);
  if (target == "avx2") return i8 ? peak_madd256(turns) : peak_avx2(turns);
  if (target == "sse4.2" || target == "scalar") return i8 ? peak_madd128(turns) : peak_sse(turns);
#elif defined(__aarch64__)
  if (target == "neon-dotprod" && i8) return peak_sdot(turns);
  if (target.starts_with("neon") || target == "scalar") {
    return i8 ? peak_widening(turns) : peak_neon(turns);
  }
#endif
  (void)i8;
  (void)turns;
  return 0;
}

}  // namespace splitee::bench
