// The kernels of avx512amx as they are, on the model of their instructions.
#include "kernels/simd/amx-inl.h"
#include "tests/kernels/amx_model.h"

namespace splitee::kernels {
namespace {

struct ModelInstructions {
  static void configure(const TileConfig& config) { testing::amx::load_config(&config); }
  static void release() { testing::amx::release(); }
  template <std::size_t kTile>
  static void zero() {
    testing::amx::zero(kTile);
  }
  template <std::size_t kTile>
  static void load(const void* p, std::size_t stride) {
    testing::amx::load(kTile, p, stride);
  }
  template <std::size_t kTile>
  static void store(void* p, std::size_t stride) {
    testing::amx::store(kTile, p, stride);
  }
  template <std::size_t kSum, std::size_t kLeft, std::size_t kRight>
  static void add_int8() {
    testing::amx::add_int8(kSum, kLeft, kRight);
  }
  template <std::size_t kSum, std::size_t kLeft, std::size_t kRight>
  static void add_bf16() {
    testing::amx::add_bf16(kSum, kLeft, kRight);
  }
};

}  // namespace

const Kernels& avx512amx_model_target() {
  static const Kernels kernels = with_tiles(amx_kernels<ModelInstructions>("avx512amx-model"));
  return kernels;
}

}  // namespace splitee::kernels
