// The model's tiles and what the instructions do to them. The names of variables are the manual's
// where it has some.
#include "tests/kernels/amx_model.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <xmmintrin.h>

namespace splitee::kernels::testing::amx {
namespace {

constexpr std::size_t kTiles = 8, kMaxRows = 16, kRowBytes = 64;

struct Tile {
  std::size_t rows = 0, colsb = 0;
  std::uint8_t data[kMaxRows][kRowBytes] = {};
  bool valid() const { return rows != 0; }
};
struct State {
  bool configured = false;
  Tile tiles[kTiles];
  std::size_t products = 0;
};
thread_local State state;

void fault_unless(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "AMX model: %s\n", what);
  std::abort();
}

Tile& used_tile(std::size_t number) {
  fault_unless(state.configured, "#UD, tiles are not configured");
  fault_unless(number < kTiles, "#UD, no such tile");
  fault_unless(state.tiles[number].valid(), "#UD, the configuration has no such tile");
  return state.tiles[number];
}

bool all_zero(const std::uint8_t* bytes, std::size_t begin, std::size_t end) {
  return std::all_of(bytes + begin, bytes + end, [](std::uint8_t byte) { return byte == 0; });
}

// Checks what every product does (class AMX-E4).
struct Operands {
  Operands(std::size_t sum, std::size_t left, std::size_t right)
      : srcdest(used_tile(sum)), src1(used_tile(left)), src2(used_tile(right)) {
    fault_unless(sum != left && sum != right && left != right, "#UD, a tile is named twice");
    fault_unless(srcdest.colsb % 4 == 0 && src1.colsb % 4 == 0 && src2.colsb % 4 == 0,
                 "#UD, a row is not of whole cells");
    fault_unless(srcdest.colsb == src2.colsb, "#UD, columns of the sums and of the right tile");
    fault_unless(srcdest.rows == src1.rows, "#UD, rows of the sums and of the left tile");
    fault_unless(src1.colsb / 4 == src2.rows, "#UD, depth of the left and of the right tile");
    ++state.products;
  }
  Tile& srcdest;
  const Tile& src1;
  const Tile& src2;
};

// What is beyond the columns and rows of the configuration is zero after a write.
void write_row_and_zero(Tile& tile, std::size_t row, const void* data) {
  std::memset(tile.data[row], 0, kRowBytes);
  std::memcpy(tile.data[row], data, tile.colsb);
}
void zero_upper_rows(Tile& tile) {
  for (std::size_t row = tile.rows; row < kMaxRows; ++row) {
    std::memset(tile.data[row], 0, kRowBytes);
  }
}

// MXCSR as the manual has it for TDPBF16PS: to nearest even, denormals are zero as operands and as
// results, no exceptions.
class RoundingOfTiles {
 public:
  RoundingOfTiles() { _mm_setcsr(0x1f80u | 0x8000u | 0x0040u); }
  ~RoundingOfTiles() { _mm_setcsr(before_); }
  RoundingOfTiles(const RoundingOfTiles&) = delete;

 private:
  unsigned before_ = _mm_getcsr();
};

float make_fp32(const std::uint8_t* bfloat16) {
  std::uint16_t bits;
  std::memcpy(&bits, bfloat16, sizeof bits);
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// One row of sums. Not inlined: between the calls that change MXCSR.
[[gnu::noinline]] void add_bf16_row(const std::uint8_t* src1, std::size_t elements_src1,
                                    const Tile& src2, std::size_t elements_dest, float* dest) {
  constexpr std::size_t kElements = kRowBytes / 4;
  float even[kElements] = {}, odd[kElements] = {};  // temp1[2 * n], temp1[2 * n + 1]
  for (std::size_t k = 0; k < elements_src1; ++k) {
    const float first = make_fp32(src1 + 4 * k), second = make_fp32(src1 + 4 * k + 2);
    for (std::size_t n = 0; n < elements_dest; ++n) {
      even[n] = __builtin_fmaf(first, make_fp32(src2.data[k] + 4 * n), even[n]);
      odd[n] = __builtin_fmaf(second, make_fp32(src2.data[k] + 4 * n + 2), odd[n]);
    }
  }
  for (std::size_t n = 0; n < elements_dest; ++n) {
    const float tmpf32 = even[n] + odd[n];
    dest[n] = dest[n] + tmpf32;
  }
}

}  // namespace

void load_config(const void* config) {
  std::uint8_t buf[64];
  std::memcpy(buf, config, sizeof buf);
  fault_unless(buf[0] <= 1, "#GP, palette");
  state.configured = false;
  for (Tile& tile : state.tiles) tile = Tile();
  if (buf[0] == 0) return;
  // A start row is for an instruction that was interrupted: ours never are.
  fault_unless(all_zero(buf, 1, 16) && all_zero(buf, 32, 48) && all_zero(buf, 56, 64),
               "#GP, reserved bytes");
  for (std::size_t n = 0; n < kTiles; ++n) {
    Tile& tile = state.tiles[n];
    tile.colsb = buf[16 + 2 * n] + 256u * buf[17 + 2 * n];
    tile.rows = buf[48 + n];
    fault_unless(tile.colsb <= kRowBytes && tile.rows <= kMaxRows, "#GP, a tile is too large");
    fault_unless((tile.rows == 0) == (tile.colsb == 0),
                 "#GP, rows without bytes, or bytes without");
  }
  state.configured = true;
}

void release() {
  state.configured = false;
  for (Tile& tile : state.tiles) tile = Tile();
}

bool configured() {
  return state.configured;
}

void zero(std::size_t tile) {
  std::memset(used_tile(tile).data, 0, kMaxRows * kRowBytes);
}

void load(std::size_t number, const void* p, std::size_t stride_bytes) {
  Tile& tile = used_tile(number);
  const auto* from = static_cast<const std::uint8_t*>(p);
  for (std::size_t row = 0; row < tile.rows; ++row, from += stride_bytes) {
    write_row_and_zero(tile, row, from);
  }
  zero_upper_rows(tile);
}

void store(std::size_t number, void* p, std::size_t stride_bytes) {
  const Tile& tile = used_tile(number);
  auto* to = static_cast<std::uint8_t*>(p);
  for (std::size_t row = 0; row < tile.rows; ++row, to += stride_bytes) {
    std::memcpy(to, tile.data[row], tile.colsb);
  }
}

void add_int8(std::size_t sum, std::size_t left, std::size_t right) {
  const Operands of(sum, left, right);
  for (std::size_t m = 0; m < of.srcdest.rows; ++m) {
    std::uint32_t tmp[kRowBytes / 4];
    std::memcpy(tmp, of.srcdest.data[m], sizeof tmp);
    for (std::size_t k = 0; k < of.src1.colsb / 4; ++k) {
      for (std::size_t n = 0; n < of.srcdest.colsb / 4; ++n) {
        for (std::size_t i = 0; i < 4; ++i) {
          const int product = static_cast<std::int8_t>(of.src1.data[m][4 * k + i]) *
                              static_cast<std::int8_t>(of.src2.data[k][4 * n + i]);
          tmp[n] += static_cast<std::uint32_t>(product);  // without saturation
        }
      }
    }
    write_row_and_zero(of.srcdest, m, tmp);
  }
  zero_upper_rows(of.srcdest);
}

void add_bf16(std::size_t sum, std::size_t left, std::size_t right) {
  const Operands of(sum, left, right);
  const RoundingOfTiles rounding;
  for (std::size_t m = 0; m < of.srcdest.rows; ++m) {
    float tmp[kRowBytes / 4];
    std::memcpy(tmp, of.srcdest.data[m], sizeof tmp);
    add_bf16_row(of.src1.data[m], of.src1.colsb / 4, of.src2, of.srcdest.colsb / 4, tmp);
    write_row_and_zero(of.srcdest, m, tmp);
  }
  zero_upper_rows(of.srcdest);
}

std::size_t products() {
  return state.products;
}

}  // namespace splitee::kernels::testing::amx
