#include <algorithm>
#include <array>
#include <cstdlib>

#include "kernels/targets.h"

#if defined(__aarch64__) || defined(__arm__)
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#ifdef SPLITEE_WITH_AVX512AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif
// <asm/hwcap.h> has them too, but only where the kernel's headers are installed.
#ifdef __aarch64__
#ifndef HWCAP_ASIMD
#define HWCAP_ASIMD (1 << 1)
#endif
#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1 << 20)
#endif
#ifndef HWCAP2_I8MM
#define HWCAP2_I8MM (1 << 13)
#endif
#ifndef HWCAP2_BF16
#define HWCAP2_BF16 (1 << 14)
#endif
#elif defined(__arm__)
#ifndef HWCAP_NEON
#define HWCAP_NEON (1 << 12)
#endif
#ifndef HWCAP_VFPv4
#define HWCAP_VFPv4 (1 << 16)
#endif
#endif

namespace splitee::kernels {
namespace {

// GCC's and clang's __builtin_cpu_supports also asks whether the operating system saves the
// wider registers. The features of each target are those of its flags in meson.build.
#ifdef SPLITEE_WITH_AVX512
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx2") &&
         __builtin_cpu_supports("fma");
}
#endif
#ifdef SPLITEE_WITH_AVX512VNNI
bool has_avx512vnni() {
  return has_avx512() && __builtin_cpu_supports("avx512vnni");
}
#endif
#ifdef SPLITEE_WITH_AVX512BF16
bool has_avx512bf16() {
  return has_avx512vnni() && __builtin_cpu_supports("avx512bf16");
}
#endif
#ifdef SPLITEE_WITH_AVX512AMX
// Whether the system saves the tiles and their configuration: XCR0, bits 17 and 18.
bool saves_tiles() {
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & (3u << 17)) == 3u << 17;
}
// Linux gives a process the tiles where it asks for them, for all of its threads and what it forks.
// From then on a stack for signals has to have room for them, 8 KiB more, or the system refuses.
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
// Leaf 7, EDX: bfloat16, tiles, int8.
bool has_avx512amx() {
  constexpr unsigned kNeeded = 1u << 22 | 1u << 24 | 1u << 25;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!has_avx512bf16() || __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  return (edx & kNeeded) == kNeeded && saves_tiles() && may_use_tiles();
}
const Kernels& whole_avx512amx() {
  static const Kernels kernels = with_tiles(avx512amx_target());
  return kernels;
}
#endif
#ifdef SPLITEE_WITH_AVX2
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif
#ifdef SPLITEE_WITH_AVX2VNNI
// Leaf 7, subleaf 1, EAX bit 4; GCC knows the word "avxvnni" from 13 on. The registers are those of
// AVX2, so that what the operating system saves for that is enough.
bool has_avx2vnni() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!has_avx2() || __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || eax < 1) return false;
  __cpuid_count(7, 1, eax, ebx, ecx, edx);
  return (eax & (1u << 4)) != 0;
}
#endif
#ifdef SPLITEE_WITH_SSE42
bool has_sse42() {
  return __builtin_cpu_supports("sse4.2");
}
#endif
#ifdef SPLITEE_WITH_NEON
bool has_neon() {
#ifdef __aarch64__
  return (getauxval(AT_HWCAP) & HWCAP_ASIMD) != 0;
#else
  constexpr unsigned long kNeeded = HWCAP_NEON | HWCAP_VFPv4;  // the second: to multiply and add
  return (getauxval(AT_HWCAP) & kNeeded) == kNeeded;
#endif
}
#endif
#ifdef SPLITEE_WITH_NEON_DOTPROD
bool has_neon_dotprod() {
  return has_neon() && (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}
#endif
#ifdef SPLITEE_WITH_NEON_I8MM
bool has_neon_i8mm() {
  constexpr unsigned long kNeeded = HWCAP2_I8MM | HWCAP2_BF16;
  return has_neon_dotprod() && (getauxval(AT_HWCAP2) & kNeeded) == kNeeded;
}
#endif
#ifdef SPLITEE_WITH_WASM_SIMD128
// An engine without vectors refuses the whole module.
bool has_wasm_simd128() {
  return true;
}
#endif
bool has_scalar() {
  return true;
}

struct Target {
  const Kernels& (*kernels)();
  bool (*supported)();
};

// Best first; before scalar, which all have, those that were never run on their hardware, so that
// nothing but their name chooses them: a CPU that has one has a better-known one above it.
constexpr Target kTargets[] = {
#ifdef SPLITEE_WITH_AVX512BF16
    {avx512bf16_target, has_avx512bf16},
#endif
#ifdef SPLITEE_WITH_AVX512VNNI
    {avx512vnni_target, has_avx512vnni},
#endif
#ifdef SPLITEE_WITH_AVX512
    {avx512_target, has_avx512},
#endif
#ifdef SPLITEE_WITH_AVX2VNNI
    {avx2vnni_target, has_avx2vnni},
#endif
#ifdef SPLITEE_WITH_AVX2
    {avx2_target, has_avx2},
#endif
#ifdef SPLITEE_WITH_SSE42
    {sse42_target, has_sse42},
#endif
#ifdef SPLITEE_WITH_NEON_I8MM
    {neon_i8mm_target, has_neon_i8mm},
#endif
#ifdef SPLITEE_WITH_NEON_DOTPROD
    {neon_dotprod_target, has_neon_dotprod},
#endif
#ifdef SPLITEE_WITH_NEON
    {neon_target, has_neon},
#endif
#ifdef SPLITEE_WITH_AVX512AMX
    {whole_avx512amx, has_avx512amx},
#endif
#ifdef SPLITEE_WITH_WASM_SIMD128
    {wasm_simd128_target, has_wasm_simd128},
#endif
    {scalar_target, has_scalar},
};

}  // namespace

#ifdef SPLITEE_WITH_AVX512AMX
Kernels with_tiles(const Kernels& tiles) {
  Kernels kernels = avx512bf16_target();
  kernels.target = tiles.target;
  kernels.bf16 = tiles.bf16;
  kernels.i8 = tiles.i8;
  kernels.depthwise3x3 = tiles.depthwise3x3;
  return kernels;
}
#endif

std::span<const Kernels* const> compiled_targets() {
  static const auto tables = [] {
    std::array<const Kernels*, std::size(kTargets)> list{};
    std::transform(std::begin(kTargets), std::end(kTargets), list.begin(),
                   [](const Target& target) { return &target.kernels(); });
    return list;
  }();
  return tables;
}

bool supported(const Kernels& kernels) {
  return std::any_of(std::begin(kTargets), std::end(kTargets), [&](const Target& target) {
    return &target.kernels() == &kernels && target.supported();
  });
}

const Kernels* find_target(std::string_view name) {
  for (const Kernels* kernels : compiled_targets()) {
    if ((name.empty() || name == kernels->target) && supported(*kernels)) return kernels;
  }
  return nullptr;
}

std::string_view target_from_environment() {
  const char* value = std::getenv("SPLITEE_TARGET");
  return value == nullptr ? std::string_view() : std::string_view(value);
}

}  // namespace splitee::kernels
