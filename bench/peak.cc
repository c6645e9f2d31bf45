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
#define SPLITEE_PEAK(VECTOR, ONE, REGISTER, MULTIPLY_ADD)                      \
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
  return turns * 12 * 2 * static_cast<std::int64_t>(sizeof(VECTOR) / sizeof(float))

#ifdef __x86_64__
__attribute__((target("avx512f"))) std::int64_t peak_avx512(std::int64_t turns) {
  SPLITEE_PEAK(__m512, _mm512_set1_ps(1.0f), "+v", _mm512_fmadd_ps);
}
__attribute__((target("avx2,fma"))) std::int64_t peak_avx2(std::int64_t turns) {
  SPLITEE_PEAK(__m256, _mm256_set1_ps(1.0f), "+x", _mm256_fmadd_ps);
}
// Without a fused form: a product, kept apart from the last turn's by the empty asm, and a sum.
__m128 multiply_then_add(__m128 a, __m128 b, __m128 c) {
  asm volatile("" : "+x"(a));
  return _mm_add_ps(_mm_mul_ps(a, b), c);
}
std::int64_t peak_sse(std::int64_t turns) {
  SPLITEE_PEAK(__m128, _mm_set1_ps(1.0f), "+x", multiply_then_add);
}
#elif defined(__aarch64__)
float32x4_t multiply_add(float32x4_t a, float32x4_t b, float32x4_t c) {
  return vfmaq_f32(c, a, b);
}
std::int64_t peak_neon(std::int64_t turns) {
  SPLITEE_PEAK(float32x4_t, vdupq_n_f32(1.0f), "+w", multiply_add);
}
#endif

}  // namespace

std::int64_t run_peak(std::string_view target, std::int64_t turns) {
#ifdef __x86_64__
  if (target == "avx512") return peak_avx512(turns);
  if (target == "avx2") return peak_avx2(turns);
  if (target == "sse4.2" || target == "scalar") return peak_sse(turns);
#elif defined(__aarch64__)
  if (target == "neon" || target == "scalar") return peak_neon(turns);
#endif
  (void)turns;
  return 0;
}

}  // namespace splitee::bench
