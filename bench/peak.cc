#include "bench/peak.h"

#include <algorithm>
#include <barrier>
#include <chrono>
#include <ctime>
#include <functional>
#include <thread>
#include <vector>

#ifdef __x86_64__
#include <immintrin.h>
#elif defined(__aarch64__) || defined(__arm__)
#include <arm_neon.h>
#include <sys/auxv.h>
#endif

namespace splitee::bench {
namespace {

// Twelve named sums, each kept in its register by an empty asm: enough to hide the latency of every
// CPU's multiply-and-add, and few enough for sixteen registers. A macro, since a function of the
// baseline cannot be written with wider vectors.
#define SPLITEE_STEP(REGISTER, MULTIPLY_ADD, SUM) \
  SUM = MULTIPLY_ADD(x, x, SUM);                  \
  asm volatile("" : REGISTER(SUM))
#define SPLITEE_PEAK(VECTOR, X, SUM, REGISTER, MULTIPLY_ADD, PAIRS)  \
  const VECTOR zero = SUM;                                           \
  auto x = X;                                                        \
  VECTOR a = zero, b = zero, c = zero, d = zero, e = zero, f = zero; \
  VECTOR g = zero, h = zero, i = zero, j = zero, k = zero, l = zero; \
  for (std::int64_t turn = 0; turn < turns; ++turn) {                \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, a);                         \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, b);                         \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, c);                         \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, d);                         \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, e);                         \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, f);                         \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, g);                         \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, h);                         \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, i);                         \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, j);                         \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, k);                         \
    SPLITEE_STEP(REGISTER, MULTIPLY_ADD, l);                         \
  }                                                                  \
  return turns * 12 * 2 * static_cast<std::int64_t>(PAIRS)

// Which peaks a kernel target's arithmetics are measured by: without instructions for bf16, it is
// widened to f32.
struct OfTarget {
  std::string_view target, f32, bf16, i8;
};

#ifdef __x86_64__
#define SPLITEE_FOR(FEATURES) __attribute__((target(FEATURES))) std::int64_t
#define SPLITEE_STEP_FOR(FEATURES) __attribute__((target(FEATURES), always_inline)) inline

// The order of arguments that SPLITEE_PEAK expects.
SPLITEE_STEP_FOR("avx512f,avx512bf16") __m512 dot_bf16_512(__m512bh a, __m512bh b, __m512 sum) {
  return _mm512_dpbf16_ps(sum, a, b);
}
SPLITEE_STEP_FOR("avx512f,avx512vnni") __m512i dot_i8_512(__m512i a, __m512i b, __m512i sum) {
  return _mm512_dpbusd_epi32(sum, a, b);
}
SPLITEE_STEP_FOR("avx2,avxvnni") __m256i dot_i8_256(__m256i a, __m256i b, __m256i sum) {
  return _mm256_dpbusd_avx_epi32(sum, a, b);
}

SPLITEE_FOR("avx512f") f32_avx512(std::int64_t turns) {
  SPLITEE_PEAK(__m512, _mm512_set1_ps(1.0f), _mm512_setzero_ps(), "+v", _mm512_fmadd_ps, 16);
}
SPLITEE_FOR("avx2,fma") f32_avx2(std::int64_t turns) {
  SPLITEE_PEAK(__m256, _mm256_set1_ps(1.0f), _mm256_setzero_ps(), "+x", _mm256_fmadd_ps, 8);
}
// Without a fused form: a product, kept apart from the last turn's by the empty asm, and a sum.
SPLITEE_STEP_FOR("sse2") __m128 multiply_then_add(__m128 a, __m128 b, __m128 c) {
  asm volatile("" : "+x"(a));
  return _mm_add_ps(_mm_mul_ps(a, b), c);
}
std::int64_t f32_sse(std::int64_t turns) {
  SPLITEE_PEAK(__m128, _mm_set1_ps(1.0f), _mm_setzero_ps(), "+x", multiply_then_add, 4);
}

SPLITEE_FOR("avx512f,avx512bf16") bf16_avx512(std::int64_t turns) {
  SPLITEE_PEAK(__m512, (__m512bh)_mm512_set1_epi16(0x3f80), _mm512_setzero_ps(), "+v", dot_bf16_512,
               32);
}
SPLITEE_FOR("avx512f,avx512vnni") i8_avx512_vnni(std::int64_t turns) {
  SPLITEE_PEAK(__m512i, _mm512_set1_epi8(1), _mm512_setzero_si512(), "+v", dot_i8_512, 64);
}
SPLITEE_FOR("avx2,avxvnni") i8_avx2_vnni(std::int64_t turns) {
  SPLITEE_PEAK(__m256i, _mm256_set1_epi8(1), _mm256_setzero_si256(), "+x", dot_i8_256, 32);
}

// Bytes to 16 bits, 16 bits to 32 bits, sum: what there is without VNNI. The empty asm keeps the
// product from being computed once for all sums.
#define SPLITEE_MADDUBS(FEATURES, NAME, VECTOR, PREFIX, REGISTER)                        \
  SPLITEE_STEP_FOR(FEATURES) VECTOR NAME(VECTOR x, VECTOR y, VECTOR sum) {               \
    asm volatile("" : REGISTER(x));                                                      \
    return PREFIX##_add_epi32(                                                           \
        sum, PREFIX##_madd_epi16(PREFIX##_maddubs_epi16(x, y), PREFIX##_set1_epi16(1))); \
  }
SPLITEE_MADDUBS("avx512f,avx512bw", maddubs_512, __m512i, _mm512, "+v")
SPLITEE_MADDUBS("avx2", maddubs_256, __m256i, _mm256, "+x")
SPLITEE_MADDUBS("ssse3", maddubs_128, __m128i, _mm, "+x")
SPLITEE_FOR("avx512f,avx512bw") i8_avx512_maddubs(std::int64_t turns) {
  SPLITEE_PEAK(__m512i, _mm512_set1_epi8(1), _mm512_setzero_si512(), "+v", maddubs_512, 64);
}
SPLITEE_FOR("avx2") i8_avx2_maddubs(std::int64_t turns) {
  SPLITEE_PEAK(__m256i, _mm256_set1_epi8(1), _mm256_setzero_si256(), "+x", maddubs_256, 32);
}
SPLITEE_FOR("ssse3") i8_sse_maddubs(std::int64_t turns) {
  SPLITEE_PEAK(__m128i, _mm_set1_epi8(1), _mm_setzero_si128(), "+x", maddubs_128, 16);
}

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}
bool has_avx512_bf16() {
  return has_avx512() && __builtin_cpu_supports("avx512bf16");
}
bool has_avx512_vnni() {
  return has_avx512() && __builtin_cpu_supports("avx512vnni");
}
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
bool has_avx_vnni() {
  // CPUID leaf 7, subleaf 1, EAX bit 4; not every supported compiler knows the word "avxvnni".
  unsigned eax = 7, ebx = 0, ecx = 1, edx = 0;
  asm("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  return has_avx2() && (eax & (1u << 4)) != 0;
}
bool has_ssse3() {
  return __builtin_cpu_supports("ssse3");
}
bool always() {
  return true;
}

constexpr Peak kPeaks[] = {
    {"f32 avx512 fma", has_avx512, f32_avx512},
    {"f32 avx2 fma", has_avx2, f32_avx2},
    {"f32 sse mul add", always, f32_sse},
    {"bf16 avx512 dpbf16ps", has_avx512_bf16, bf16_avx512},
    {"i8 avx512 vpdpbusd", has_avx512_vnni, i8_avx512_vnni},
    {"i8 avx512 maddubs", has_avx512, i8_avx512_maddubs},
    {"i8 avx2 vpdpbusd", has_avx_vnni, i8_avx2_vnni},
    {"i8 avx2 maddubs", has_avx2, i8_avx2_maddubs},
    {"i8 ssse3 maddubs", has_ssse3, i8_sse_maddubs},
};

constexpr OfTarget kOfTarget[] = {
    {"avx512bf16", "f32 avx512 fma", "bf16 avx512 dpbf16ps", "i8 avx512 vpdpbusd"},
    {"avx512vnni", "f32 avx512 fma", "f32 avx512 fma", "i8 avx512 vpdpbusd"},
    {"avx512", "f32 avx512 fma", "f32 avx512 fma", "i8 avx512 maddubs"},
    {"avx2vnni", "f32 avx2 fma", "f32 avx2 fma", "i8 avx2 vpdpbusd"},
    {"avx2", "f32 avx2 fma", "f32 avx2 fma", "i8 avx2 maddubs"},
    {"sse4.2", "f32 sse mul add", "f32 sse mul add", "i8 ssse3 maddubs"},
    {"scalar", "f32 sse mul add", "f32 sse mul add", "f32 sse mul add"},
};

// The empty asm takes each vector for used.
__attribute__((target("avx512f"))) void read_avx512(const char* data, std::size_t bytes) {
  for (std::size_t i = 0; i + 256 <= bytes; i += 256) {
    const __m512i a = _mm512_loadu_si512(data + i), b = _mm512_loadu_si512(data + i + 64);
    const __m512i c = _mm512_loadu_si512(data + i + 128), d = _mm512_loadu_si512(data + i + 192);
    asm volatile("" : : "v"(a), "v"(b), "v"(c), "v"(d));
  }
}
#elif defined(__aarch64__)
float32x4_t multiply_add(float32x4_t a, float32x4_t b, float32x4_t c) {
  return vfmaq_f32(c, a, b);
}
std::int64_t f32_neon(std::int64_t turns) {
  SPLITEE_PEAK(float32x4_t, vdupq_n_f32(1.0f), vdupq_n_f32(0.0f), "+w", multiply_add, 4);
}
#ifdef __clang__
#define SPLITEE_DOTPROD __attribute__((target("dotprod")))
#else
#define SPLITEE_DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
// The instruction by its name, since arm_neon.h may hide it where the baseline lacks it.
SPLITEE_DOTPROD inline int32x4_t dot_i8(int8x16_t a, int8x16_t b, int32x4_t sum) {
  asm volatile("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(a), "w"(b));
  return sum;
}
SPLITEE_DOTPROD std::int64_t i8_neon_sdot(std::int64_t turns) {
  SPLITEE_PEAK(int32x4_t, vdupq_n_s8(1), vdupq_n_s32(0), "+w", dot_i8, 16);
}
#ifdef __clang__
#define SPLITEE_MMLA __attribute__((target("i8mm,bf16")))
#else
#define SPLITEE_MMLA __attribute__((target("arch=armv8.2-a+i8mm+bf16")))
#endif
SPLITEE_MMLA inline int32x4_t mmla_i8(int8x16_t a, int8x16_t b, int32x4_t sum) {
  asm volatile("smmla %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(a), "w"(b));
  return sum;
}
SPLITEE_MMLA inline float32x4_t mmla_bf16(uint16x8_t a, uint16x8_t b, float32x4_t sum) {
  asm volatile("bfmmla %0.4s, %1.8h, %2.8h" : "+w"(sum) : "w"(a), "w"(b));
  return sum;
}
SPLITEE_MMLA std::int64_t i8_neon_smmla(std::int64_t turns) {
  SPLITEE_PEAK(int32x4_t, vdupq_n_s8(1), vdupq_n_s32(0), "+w", mmla_i8, 32);
}
SPLITEE_MMLA std::int64_t bf16_neon_bfmmla(std::int64_t turns) {
  SPLITEE_PEAK(float32x4_t, vdupq_n_u16(0x3f80), vdupq_n_f32(0.0f), "+w", mmla_bf16, 16);
}
int32x4_t multiply_pairs(int8x16_t a, int8x16_t b, int32x4_t sum) {
  asm volatile("" : "+w"(a));
  const int16x8_t pairs = vmlal_high_s8(vmull_s8(vget_low_s8(a), vget_low_s8(b)), a, b);
  return vpadalq_s16(sum, pairs);
}
std::int64_t i8_neon(std::int64_t turns) {
  SPLITEE_PEAK(int32x4_t, vdupq_n_s8(1), vdupq_n_s32(0), "+w", multiply_pairs, 16);
}

bool has_dotprod() {
  return (getauxval(AT_HWCAP) & (1ul << 20)) != 0;
}
bool has_mmla() {
  constexpr unsigned long kI8mmAndBf16 = 1ul << 13 | 1ul << 14;
  return (getauxval(AT_HWCAP2) & kI8mmAndBf16) == kI8mmAndBf16;
}
bool always() {
  return true;
}

constexpr Peak kPeaks[] = {
    {"f32 neon fmla", always, f32_neon},
    {"bf16 neon bfmmla", has_mmla, bf16_neon_bfmmla},
    {"i8 neon smmla", has_mmla, i8_neon_smmla},
    {"i8 neon sdot", has_dotprod, i8_neon_sdot},
    {"i8 neon smull smlal2 sadalp", always, i8_neon},
};

constexpr OfTarget kOfTarget[] = {
    {"neon-i8mm", "f32 neon fmla", "bf16 neon bfmmla", "i8 neon smmla"},
    {"neon-dotprod", "f32 neon fmla", "f32 neon fmla", "i8 neon sdot"},
    {"neon", "f32 neon fmla", "f32 neon fmla", "i8 neon smull smlal2 sadalp"},
    {"scalar", "f32 neon fmla", "f32 neon fmla", "f32 neon fmla"},
};
#elif defined(__arm__)
#define SPLITEE_NEON __attribute__((target("fpu=neon-vfpv4")))
SPLITEE_NEON inline float32x4_t multiply_add(float32x4_t a, float32x4_t b, float32x4_t sum) {
  asm volatile("vfma.f32 %q0, %q1, %q2" : "+w"(sum) : "w"(a), "w"(b));
  return sum;
}
SPLITEE_NEON std::int64_t f32_neon(std::int64_t turns) {
  SPLITEE_PEAK(float32x4_t, vdupq_n_f32(1.0f), vdupq_n_f32(0.0f), "+w", multiply_add, 4);
}
SPLITEE_NEON inline int32x4_t multiply_pairs(int8x16_t a, int8x16_t b, int32x4_t sum) {
  asm volatile("" : "+w"(a));
  const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
  return vpadalq_s16(sum, vmlal_s8(low, vget_high_s8(a), vget_high_s8(b)));
}
SPLITEE_NEON std::int64_t i8_neon(std::int64_t turns) {
  SPLITEE_PEAK(int32x4_t, vdupq_n_s8(1), vdupq_n_s32(0), "+w", multiply_pairs, 16);
}

bool has_neon() {
  constexpr unsigned long kNeonAndVfpv4 = 1ul << 12 | 1ul << 16;
  return (getauxval(AT_HWCAP) & kNeonAndVfpv4) == kNeonAndVfpv4;
}

constexpr Peak kPeaks[] = {
    {"f32 neon vfma", has_neon, f32_neon},
    {"i8 neon vmull vmlal vpadal", has_neon, i8_neon},
};

constexpr OfTarget kOfTarget[] = {
    {"neon", "f32 neon vfma", "f32 neon vfma", "i8 neon vmull vmlal vpadal"},
    {"scalar", "f32 neon vfma", "f32 neon vfma", "f32 neon vfma"},
};
#endif

// Vectors of the compiler's baseline.
void read_plain(const char* data, std::size_t bytes) {
  using Vector [[gnu::vector_size(16), gnu::may_alias, gnu::aligned(1)]] = int;
  for (std::size_t i = 0; i + 64 <= bytes; i += 64) {
    const Vector* vectors = reinterpret_cast<const Vector*>(data + i);
    for (int v = 0; v < 4; ++v) {
      const Vector vector = vectors[v];
#ifdef __x86_64__
      asm volatile("" : : "x"(vector));
#elif defined(__arm__)
      asm volatile("" : : "r"(vector[0]), "r"(vector[1]), "r"(vector[2]), "r"(vector[3]));
#else
      asm volatile("" : : "w"(vector));
#endif
    }
  }
}

void read_once(const char* data, std::size_t bytes) {
#ifdef __x86_64__
  if (has_avx512()) return read_avx512(data, bytes);
#endif
  read_plain(data, bytes);
}

double thread_seconds() {
  timespec time = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

std::span<const Peak> peaks() {
  return kPeaks;
}

const Peak* find_peak(std::string_view dtype, std::string_view target) {
  for (const OfTarget& row : kOfTarget) {
    if (row.target != target) continue;
    const std::string_view name = dtype == "i8" ? row.i8 : dtype == "bf16" ? row.bf16 : row.f32;
    for (const Peak& peak : kPeaks) {
      if (peak.name == name && peak.supported()) return &peak;
    }
  }
  return nullptr;
}

double measure_peak(const Peak& peak, int runs) {
  constexpr std::int64_t kTurns = 100'000;
  double best = 0.0;
  for (int i = 0; i < runs; ++i) {
    const double start = thread_seconds();
    const auto operations = static_cast<double>(peak.run(kTurns));
    best = std::max(best, operations / (thread_seconds() - start));
  }
  return best;
}

double measure_read(std::size_t bytes, std::size_t threads) {
  constexpr int kRuns = 12;
  constexpr std::size_t kBytesPerRun = std::size_t{64} << 20;
  const std::size_t passes = std::max<std::size_t>(1, kBytesPerRun / bytes);
  std::vector<double> seconds(threads);
  const auto read = [&](std::size_t thread, std::barrier<>& start) {
    const std::vector<char> data(bytes, 1);
    start.arrive_and_wait();
    const auto begin = std::chrono::steady_clock::now();
    for (std::size_t pass = 0; pass < passes; ++pass) read_once(data.data(), bytes);
    const auto end = std::chrono::steady_clock::now();
    seconds[thread] = std::chrono::duration<double>(end - begin).count();
  };
  double best = 0.0;
  for (int run = 0; run < kRuns; ++run) {
    std::barrier<> barrier(static_cast<std::ptrdiff_t>(threads));
    std::vector<std::thread> helpers;
    for (std::size_t t = 1; t < threads; ++t) helpers.emplace_back(read, t, std::ref(barrier));
    read(0, barrier);
    for (std::thread& helper : helpers) helper.join();
    const double slowest = *std::max_element(seconds.begin(), seconds.end());
    best = std::max(best, static_cast<double>(threads * passes * bytes) / slowest);
  }
  return best;
}

}  // namespace splitee::bench
