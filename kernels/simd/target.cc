// The SIMD kernels of one target. Compiled once per target, with that target's machine flags and
// SPLITEE_TARGET_<NAME>; everything here and in the bodies is in an anonymous namespace, so that
// one function is all that the library exports.
#include "kernels/simd/attention-inl.h"
#include "kernels/simd/bf16-inl.h"
#include "kernels/simd/elements-inl.h"
#include "kernels/simd/f32-inl.h"
#include "kernels/simd/maps-inl.h"
#include "kernels/simd/rows-inl.h"
#include "kernels/targets.h"

#if defined(__ARM_NEON)
#include "kernels/simd/i8_neon-inl.h"
#elif defined(__wasm_simd128__)
#include "kernels/simd/i8_wasm-inl.h"
#else
#include "kernels/simd/i8_maddubs-inl.h"
#endif
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
#include "kernels/simd/i8_vnni-inl.h"
#endif
#ifdef __AVX512BF16__
#include "kernels/simd/bf16_avx512-inl.h"
#endif
#ifdef __ARM_FEATURE_MATMUL_INT8
#include "kernels/simd/mmla-inl.h"
#endif

namespace splitee::kernels {
namespace {

// Rows and vectors of a tile, steps of a block.
#if defined(SPLITEE_TARGET_AVX512BF16)
#define SPLITEE_TARGET_FUNCTION avx512bf16_target
constexpr char kName[] = "avx512bf16";
using V = Vector<xsimd::avx512bw>;
using F32Tile = F32<V, 8, 2, 768>;
using Bf16Tile = Bf16Avx512<6, 4, 1024>;
using AttentionTile = Bf16Avx512<8, 2, 1024>;
using I8Tile = I8Vnni<V, 6, 4, 1024>;
#elif defined(SPLITEE_TARGET_AVX512VNNI)
#define SPLITEE_TARGET_FUNCTION avx512vnni_target
constexpr char kName[] = "avx512vnni";
using V = Vector<xsimd::avx512bw>;
using F32Tile = F32<V, 8, 2, 768>;
using Bf16Tile = Bf16Wide<V, 8, 2, 384>;
using I8Tile = I8Vnni<V, 6, 4, 1024>;
#elif defined(SPLITEE_TARGET_AVX512)
#define SPLITEE_TARGET_FUNCTION avx512_target
constexpr char kName[] = "avx512";
using V = Vector<xsimd::avx512bw>;
using F32Tile = F32<V, 8, 2, 768>;
using Bf16Tile = Bf16Wide<V, 8, 2, 384>;
using I8Tile = I8Maddubs<V, 10, 2, 1024>;
#elif defined(SPLITEE_TARGET_AVX2VNNI)
#define SPLITEE_TARGET_FUNCTION avx2vnni_target
constexpr char kName[] = "avx2vnni";
using V = Vector<xsimd::fma3<xsimd::avx2>>;
using F32Tile = F32<V, 4, 3, 768>;
using Bf16Tile = Bf16Wide<V, 5, 2, 384>;
using I8Tile = I8Vnni<V, 4, 3, 1024>;
#elif defined(SPLITEE_TARGET_AVX2)
#define SPLITEE_TARGET_FUNCTION avx2_target
constexpr char kName[] = "avx2";
using V = Vector<xsimd::fma3<xsimd::avx2>>;
using F32Tile = F32<V, 4, 3, 768>;
using Bf16Tile = Bf16Wide<V, 5, 2, 384>;
using I8Tile = I8Maddubs<V, 5, 2, 1024>;
#elif defined(SPLITEE_TARGET_SSE42)
#define SPLITEE_TARGET_FUNCTION sse42_target
constexpr char kName[] = "sse4.2";
using V = Vector<xsimd::sse4_2>;
using F32Tile = F32<V, 2, 4, 512>;
using Bf16Tile = Bf16Wide<V, 4, 2, 384>;
using I8Tile = I8Maddubs<V, 4, 2, 1024>;
#elif defined(SPLITEE_TARGET_NEON_I8MM)
#define SPLITEE_TARGET_FUNCTION neon_i8mm_target
constexpr char kName[] = "neon-i8mm";
using V = Vector<NeonArch>;
using F32Tile = F32<V, 8, 2, 256>;
using Bf16Tile = Bf16Mmla<8, 3, 512>;
using I8Tile = I8Mmla<8, 3, 512>;
#elif defined(SPLITEE_TARGET_NEON_DOTPROD)
#define SPLITEE_TARGET_FUNCTION neon_dotprod_target
constexpr char kName[] = "neon-dotprod";
using V = Vector<NeonArch>;
using F32Tile = F32<V, 8, 2, 256>;
using Bf16Tile = Bf16Wide<V, 8, 2, 256>;
using I8Tile = I8Neon<6, 4, 1024>;
#elif defined(SPLITEE_TARGET_NEON) && defined(__arm__)
// Of 16 registers, where aarch64 has 32.
#define SPLITEE_TARGET_FUNCTION neon_target
constexpr char kName[] = "neon";
using V = Vector<NeonArch>;
using F32Tile = F32<V, 4, 3, 256>;
using Bf16Tile = Bf16Wide<V, 4, 2, 256>;
using I8Tile = I8Neon<4, 2, 1024>;
#elif defined(SPLITEE_TARGET_NEON)
#define SPLITEE_TARGET_FUNCTION neon_target
constexpr char kName[] = "neon";
using V = Vector<NeonArch>;
using F32Tile = F32<V, 8, 2, 256>;
using Bf16Tile = Bf16Wide<V, 8, 2, 256>;
using I8Tile = I8Neon<8, 2, 1024>;
#elif defined(SPLITEE_TARGET_WASM_SIMD128)
#define SPLITEE_TARGET_FUNCTION wasm_simd128_target
constexpr char kName[] = "wasm-simd128";
using V = Vector<xsimd::sse4_2>;
using F32Tile = F32<V, 2, 4, 512>;
using Bf16Tile = Bf16Wide<V, 4, 2, 384>;
using I8Tile = I8Wasm<V, 4, 1, 1024>;
#endif

#ifndef __AVX512BF16__
using AttentionTile = F32Tile;
#endif

constexpr Kernels kKernels = {
    .target = kName,
    .f32 = f32_matmul<F32Tile>(),
    .bf16 = bf16_matmul<Bf16Tile>(),
    .i8 = i8_matmul<I8Tile>(),
    .attention_scratch = attention_scratch<F32Tile, AttentionTile>,
    .attention = attention<F32Tile>,
    .attention_bf16 = attention<AttentionTile>,
    .softmax = softmax<V>,
    .layer_norm = layer_norm<V>,
    .gelu = for_each<V, gelu_vector<V>>,
    .gelu_tanh = for_each<V, gelu_tanh_vector<V>>,
    .relu = for_each<V, relu_vector<V>>,
    .silu = for_each<V, silu_vector<V>>,
    .tanh = for_each<V, tanh_vector<V>>,
    .embed = embed<V>,
    .depthwise3x3 = depthwise3x3<I8Tile>,
    .max_pool3x3 = max_pool3x3<V>,
    .mean_rows = mean_rows<V>,
    .add = add<V>,
};

}  // namespace

const Kernels& SPLITEE_TARGET_FUNCTION() {
  return kKernels;
}

}  // namespace splitee::kernels
