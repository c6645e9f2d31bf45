// The tile instructions of Intel's AMX (amx-inl.h), by the compiler's intrinsics. Those take the
// number of a tile as it is written, GCC's not even as a constant expression.
#pragma once

#include <cstddef>

#include <immintrin.h>

#include "kernels/simd/amx-inl.h"

namespace splitee::kernels {
namespace {

#define SPLITEE_EACH_TILE(call) call(0) call(1) call(2) call(3) call(4) call(5) call(6) call(7)
// Sums, A and W as sum_tiles() numbers them.
#define SPLITEE_EACH_RIGHT(call, sum, left) call(sum, left, 5) call(sum, left, 6) call(sum, left, 7)
#define SPLITEE_EACH_LEFT(call, sum) \
  SPLITEE_EACH_RIGHT(call, sum, 4) call(sum, 5, 6) call(sum, 5, 7)
#define SPLITEE_EACH_PRODUCT(call) \
  SPLITEE_EACH_LEFT(call, 0)       \
  SPLITEE_EACH_LEFT(call, 1)       \
  SPLITEE_EACH_LEFT(call, 2)       \
  SPLITEE_EACH_LEFT(call, 3)

struct AmxInstructions {
  static void configure(const TileConfig& config) {
    written(&config);
    _tile_loadconfig(&config);
  }
  static void release() { _tile_release(); }

  template <std::size_t kTile>
  static void zero() {
#define SPLITEE_ZERO(tile) \
  if constexpr (kTile == tile) _tile_zero(tile);
    SPLITEE_EACH_TILE(SPLITEE_ZERO)
#undef SPLITEE_ZERO
  }
  template <std::size_t kTile>
  [[gnu::always_inline]] static void load(const void* p, std::size_t stride) {
    written(p);
#define SPLITEE_LOAD(tile) \
  if constexpr (kTile == tile) _tile_loadd(tile, p, stride);
    SPLITEE_EACH_TILE(SPLITEE_LOAD)
#undef SPLITEE_LOAD
  }
  template <std::size_t kTile>
  [[gnu::always_inline]] static void store(void* p, std::size_t stride) {
#define SPLITEE_STORE(tile) \
  if constexpr (kTile == tile) _tile_stored(tile, p, stride);
    SPLITEE_EACH_TILE(SPLITEE_STORE)
#undef SPLITEE_STORE
  }

  template <std::size_t kSum, std::size_t kLeft, std::size_t kRight>
  static void add_int8() {
    static_assert(kSum < 4 && kLeft >= 4 && kLeft <= 5 && kLeft < kRight && kRight <= 7);
#define SPLITEE_ADD(sum, left, right) \
  if constexpr (kSum == sum && kLeft == left && kRight == right) _tile_dpbssd(sum, left, right);
    SPLITEE_EACH_PRODUCT(SPLITEE_ADD)
#undef SPLITEE_ADD
  }
  template <std::size_t kSum, std::size_t kLeft, std::size_t kRight>
  static void add_bf16() {
    static_assert(kSum < 4 && kLeft >= 4 && kLeft <= 5 && kLeft < kRight && kRight <= 7);
#define SPLITEE_ADD(sum, left, right) \
  if constexpr (kSum == sum && kLeft == left && kRight == right) _tile_dpbf16ps(sum, left, right);
    SPLITEE_EACH_PRODUCT(SPLITEE_ADD)
#undef SPLITEE_ADD
  }

 private:
  // GCC 12's loads do not say that they read memory (but 8 bytes of a configuration): what was
  // stored before has to be there.
  static void written(const void* p) {
    __asm__ volatile("" : : "r"(p) : "memory");
  }
};

#undef SPLITEE_EACH_TILE
#undef SPLITEE_EACH_RIGHT
#undef SPLITEE_EACH_LEFT
#undef SPLITEE_EACH_PRODUCT

}  // namespace
}  // namespace splitee::kernels
