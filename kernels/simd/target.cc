// The SIMD kernels of one target. Compiled once per target, with that target's machine flags and
// SPLITEE_TARGET_<NAME>; everything here and in the bodies is in an anonymous namespace, so that
// one function is all that the library exports.
#include "kernels/scalar_matmul-inl.h"
#include "kernels/simd/attention-inl.h"
#include "kernels/simd/elements-inl.h"
#include "kernels/simd/matmul-inl.h"
#include "kernels/simd/rows-inl.h"
#include "kernels/targets.h"

namespace splitee::kernels {
namespace {

#if defined(SPLITEE_TARGET_AVX512)
#define SPLITEE_TARGET_FUNCTION avx512_target
constexpr char kName[] = "avx512";
using MatmulTile = Tile<xsimd::avx512bw, 14, 2, 768>;
#elif defined(SPLITEE_TARGET_AVX2)
#define SPLITEE_TARGET_FUNCTION avx2_target
constexpr char kName[] = "avx2";
using MatmulTile = Tile<xsimd::fma3<xsimd::avx2>, 4, 3, 768>;
#elif defined(SPLITEE_TARGET_SSE42)
#define SPLITEE_TARGET_FUNCTION sse42_target
constexpr char kName[] = "sse4.2";
using MatmulTile = Tile<xsimd::sse4_2, 4, 2, 512>;
#elif defined(SPLITEE_TARGET_NEON)
#define SPLITEE_TARGET_FUNCTION neon_target
constexpr char kName[] = "neon";
using MatmulTile = Tile<xsimd::neon64, 8, 2, 256>;
#endif

using V = MatmulTile::V;

constexpr Kernels kKernels = {
    .target = kName,
    .f32 = {.columns = MatmulTile::kColumns,
            .prepared_bytes = f32_prepared_bytes,
            .prepare = nullptr,
            .packed_bytes = f32_packed_bytes<MatmulTile>,
            .pack_rows = f32_pack_rows<MatmulTile>,
            .multiply = f32_multiply<MatmulTile>},
    .bf16 = scalar::matmul<scalar::Bf16>(scalar::prepare_bf16),
    .i8 = scalar::matmul<scalar::I8>(scalar::prepare_i8),
    .attention_scratch = attention_scratch<MatmulTile>,
    .attention = attention<MatmulTile>,
    .softmax = softmax<V>,
    .layer_norm = layer_norm<V>,
    .gelu = for_each<V, gelu_vector<V>>,
    .tanh = for_each<V, tanh_vector<V>>,
    .embed = embed<V>,
};

}  // namespace

const Kernels& SPLITEE_TARGET_FUNCTION() {
  return kKernels;
}

}  // namespace splitee::kernels
