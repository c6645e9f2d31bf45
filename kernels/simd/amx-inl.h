// int8 and bfloat16 products in the tiles of Intel's AMX; all else is that of avx512bf16. A tile
// has up to 16 rows of up to 64 bytes. One instruction adds to a tile of sums, 16 rows of A by 16
// columns, the products of a tile of A (a row's values of 16 steps) with one of W (16 steps of the
// cells of 16 columns). The panels of tile-inl.h are such tiles of W as they are.
//
// The steps of a row are cut into tiles of equal depth, so that one configuration, made by each
// call and released by it, is enough: W is packed with zeros up to a multiple of that depth. For
// the same reason the rows are shared out into groups of equal size, of which the last one begins
// within the one before it: its first rows are computed twice.
//
// Instructions is what the tiles are driven by, that of amx_instructions-inl.h or a model of them
// (tests/kernels/amx_model.h). All of it is of the thread that calls:
//   configure(config), release()       begin and end; configure() empties all tiles
//   zero<kTile>(), load<kTile>(p, stride), store<kTile>(p, stride)    a stride is in bytes
//   add_int8<kSum, kLeft, kRight>(), add_bf16<kSum, kLeft, kRight>()  sum += left * right
#pragma once

#include <utility>

#include "kernels/simd/bf16_avx512-inl.h"
#include "kernels/simd/i8_maddubs-inl.h"
#include "kernels/simd/maps-inl.h"
#include "kernels/targets.h"

namespace splitee::kernels {
namespace {

constexpr std::size_t kTileRows = 16, kTileRowBytes = 64, kTileColumns = 16;
constexpr std::size_t kTileSteps = kTileRowBytes / 4, kTileBytes = kTileRows * kTileRowBytes;
// Tiles of sums are the first ones; those of A follow, then those of W.
constexpr std::size_t kTiles = 8, kSumTiles = 4;

// As LDTILECFG reads it: of eight tiles. A tile of no rows and no bytes is not used.
struct alignas(64) TileConfig {
  std::uint8_t palette = 1;
  std::uint8_t reserved[15] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

// How the steps of a row are cut.
struct TileDepth {
  std::size_t tiles, steps;
};
constexpr TileDepth tile_depth(std::size_t steps) {
  const std::size_t tiles = (steps + kTileSteps - 1) / kTileSteps;
  return {tiles, tiles == 0 ? 0 : (steps + tiles - 1) / tiles};
}

struct AmxPanels {
  static constexpr std::size_t padded_steps(std::size_t steps) {
    const TileDepth depth = tile_depth(steps);
    return depth.tiles * depth.steps;
  }
};
// Panels of two vectors, of which a step is two lines of the cache.
template <class Instructions>
struct I8Amx : I8Maddubs<Vector<xsimd::avx512bw>, kTileRows, 2, 1> {
  static constexpr auto padded_steps = AmxPanels::padded_steps;
  template <std::size_t... kTiles>
  static void add() {
    Instructions::template add_int8<kTiles...>();
  }
};
template <class Instructions>
struct Bf16Amx : Bf16Avx512<kTileRows, 2, 1> {
  static constexpr auto padded_steps = AmxPanels::padded_steps;
  template <std::size_t... kTiles>
  static void add() {
    Instructions::template add_bf16<kTiles...>();
  }
};

// What is the same for all tiles of a product.
struct AmxPlan {
  std::size_t panel_bytes;
  TileDepth depth;
  std::size_t steps;      // of a row of A
  std::size_t part;       // steps of a piece of it
  std::size_t part_jump;  // bytes from a piece's end to the next one
  std::size_t a_stride;
  std::size_t line_rows;  // rows of A that follow each other
  std::size_t groups;     // of such a line, and rows of each
  std::size_t rows;
  // Tiles of A lie in memory as they are: none reaches over a piece or the end of a row.
  bool direct;

  bool two_row_tiles() const { return rows > kTileRows; }
  // Rows of the group's i-th tile of A.
  std::size_t tile_rows(std::size_t i) const {
    const std::size_t first = rows < kTileRows ? rows : kTileRows;
    return i == 0 ? first : rows - first;
  }
  // Columns that the tiles of sums take at a time.
  std::size_t columns() const { return kSumTiles / (two_row_tiles() ? 2 : 1) * kTileColumns; }
};

template <class T>
AmxPlan amx_plan(const MatmulArgs& args) {
  const std::size_t line_rows = args.line_rows == 0 ? args.m : args.line_rows;
  const std::size_t groups = (line_rows + 2 * kTileRows - 1) / (2 * kTileRows);
  const std::size_t steps = units_of<T>(args.k);
  const TileDepth depth = tile_depth(steps);
  const bool one_part = args.parts == 1;
  const std::size_t part = one_part || steps == 0 ? depth.tiles * depth.steps : steps / args.parts;
  // A row that was prepared on its own has zeros up to the end of the last tile.
  const bool fits = depth.tiles * depth.steps == steps || (args.head == nullptr && one_part);
  return {.panel_bytes = panel_bytes<T>(args.k),
          .depth = depth,
          .steps = steps,
          .part = part,
          .part_jump = one_part ? 0 : args.part_stride_bytes - part * T::kLeft,
          .a_stride = args.a_stride_bytes,
          .line_rows = line_rows,
          .groups = groups,
          .rows = (line_rows + groups - 1) / groups,
          .direct = fits && (one_part || (depth.steps != 0 && part % depth.steps == 0))};
}

inline TileConfig amx_config(const AmxPlan& plan) {
  TileConfig config;
  const std::size_t row_tiles = plan.two_row_tiles() ? 2 : 1, steps = plan.depth.steps;
  const auto set = [&](std::size_t tile, std::size_t rows, std::size_t bytes) {
    if (rows == 0 || bytes == 0) return;
    config.rows[tile] = static_cast<std::uint8_t>(rows);
    config.row_bytes[tile] = static_cast<std::uint16_t>(bytes);
  };
  for (std::size_t c = 0; c < kSumTiles; ++c) {
    set(c, plan.tile_rows(c * row_tiles / kSumTiles), kTileRowBytes);
  }
  for (std::size_t i = 0; i < row_tiles; ++i) set(kSumTiles + i, plan.tile_rows(i), 4 * steps);
  for (std::size_t b = kSumTiles + row_tiles; b < kTiles; ++b) set(b, steps, kTileRowBytes);
  return config;
}

// A tile of A that does not lie in memory as it is: the i-th of the rows at `a`, from step `first`
// on. Not inlined: it is rare, and its loops are not to be between the others.
[[gnu::noinline]] inline void copy_left(const AmxPlan& plan, const std::byte* a, std::size_t i,
                                        std::size_t first, std::byte* to) {
  const std::size_t piece_bytes = plan.part * 4 + plan.part_jump;
  a += i * kTileRows * plan.a_stride;
  for (std::size_t r = 0; r < plan.tile_rows(i); ++r, a += plan.a_stride, to += kTileRowBytes) {
    __builtin_memset(to, 0, kTileRowBytes);
    for (std::size_t s = 0; s < plan.depth.steps && first + s < plan.steps;) {
      const std::size_t inside = (first + s) % plan.part;
      std::size_t run = plan.part - inside;
      if (run > plan.depth.steps - s) run = plan.depth.steps - s;
      if (run > plan.steps - first - s) run = plan.steps - first - s;
      __builtin_memcpy(to + 4 * s, a + (first + s) / plan.part * piece_bytes + 4 * inside, 4 * run);
      s += run;
    }
  }
}

// body<i>() for i < kCount.
template <std::size_t kCount, class Body>
[[gnu::always_inline]] inline void each_tile_number(const Body& body) {
  [&]<std::size_t... kIndex>(std::index_sequence<kIndex...>) __attribute__((always_inline)) {
    (body.template operator()<kIndex>(), ...);
  }
  (std::make_index_sequence<kCount>());
}

// The numbers of the tiles where a group has kRowTiles of A. Those of W take turns.
template <std::size_t kRowTiles>
struct TileNumbers {
  static constexpr std::size_t sum(std::size_t i, std::size_t j) {
    return i * kSumTiles / kRowTiles + j;
  }
  static constexpr std::size_t left(std::size_t i) { return kSumTiles + i; }
  static constexpr std::size_t right(std::size_t j) {
    constexpr std::size_t kFirst = kSumTiles + kRowTiles;
    return kFirst + j % (kTiles - kFirst);
  }
};

// The i-th tile of A from step `first` on, where its group's rows are at `a` or, if the plan is not
// direct, begin there. `of` is the plan, too: what is given away by address is read again and
// again.
template <class Instructions, std::size_t kTile>
[[gnu::always_inline]] inline void load_left(const AmxPlan& plan, const AmxPlan& of,
                                             const std::byte* a, std::size_t i, std::size_t first,
                                             std::byte* copied) {
  if (plan.direct) {
    Instructions::template load<kTile>(a + i * kTileRows * plan.a_stride, plan.a_stride);
  } else {
    copy_left(of, a, i, first, copied);
    Instructions::template load<kTile>(copied, kTileRowBytes);
  }
}

// Sums of kRowTiles tiles of A by kColumnTiles of W, which are one vector of columns each.
template <class T, class Instructions, std::size_t kRowTiles, std::size_t kColumnTiles>
void sum_tiles(const AmxPlan& of, const std::byte* a, const std::byte* b, float* sums) {
  using Number = TileNumbers<kRowTiles>;
  const AmxPlan plan = of;
  alignas(64) std::byte copied[kRowTiles][kTileBytes];
  each_tile_number<kRowTiles>([]<std::size_t kRow>() {
    each_tile_number<kColumnTiles>(
        []<std::size_t kColumn>() { Instructions::template zero<Number::sum(kRow, kColumn)>(); });
  });
  std::size_t rest = plan.part;
  for (std::size_t d = 0; d < plan.depth.tiles; ++d) {
    each_tile_number<kColumnTiles>([&]<std::size_t kColumn>() __attribute__((always_inline)) {
      constexpr std::size_t kRight = Number::right(kColumn);
      const std::byte* panel = b + kColumn / T::kVectors * plan.panel_bytes;
      Instructions::template load<kRight>(panel + kColumn % T::kVectors * kTileRowBytes,
                                          kStepBytes<T>);
      each_tile_number<kRowTiles>([&]<std::size_t kRow>() __attribute__((always_inline)) {
        constexpr std::size_t kLeft = Number::left(kRow);
        if constexpr (kColumn == 0) {
          load_left<Instructions, kLeft>(plan, of, a, kRow, d * plan.depth.steps, copied[kRow]);
        }
        T::template add<Number::sum(kRow, kColumn), kLeft, kRight>();
      });
    });
    b += plan.depth.steps * kStepBytes<T>;
    if (!plan.direct) continue;
    a += 4 * plan.depth.steps;
    rest -= plan.depth.steps;
    if (rest == 0) {
      a += plan.part_jump;
      rest = plan.part;
    }
  }
  const std::size_t stride = plan.columns();
  each_tile_number<kRowTiles>([&]<std::size_t kRow>() {
    each_tile_number<kColumnTiles>([&]<std::size_t kColumn>() {
      Instructions::template store<Number::sum(kRow, kColumn)>(
          sums + kRow * kTileRows * stride + kColumn * kTileColumns, stride * sizeof(float));
    });
  });
}

template <class T, class Instructions>
void sum_group(const AmxPlan& plan, const std::byte* a, const std::byte* b, std::size_t columns,
               float* sums) {
  using Function = void (*)(const AmxPlan&, const std::byte*, const std::byte*, float*);
  constexpr Function kOne[] = {sum_tiles<T, Instructions, 1, 1>, sum_tiles<T, Instructions, 1, 2>,
                               sum_tiles<T, Instructions, 1, 3>, sum_tiles<T, Instructions, 1, 4>};
  constexpr Function kTwo[] = {sum_tiles<T, Instructions, 2, 1>, sum_tiles<T, Instructions, 2, 2>};
  const std::size_t tiles = (columns + kTileColumns - 1) / kTileColumns;
  (plan.two_row_tiles() ? kTwo : kOne)[tiles - 1](plan, a, b, sums);
}

// Results of a group and where they go.
struct AmxResults {
  const std::byte* head;  // of the first row of A
  std::size_t head_stride;
  const std::byte* trailer;  // of the first panel
  const float* bias;         // null: none
  float* c;
  std::uint16_t* fixed;  // null: to c
  std::size_t columns;
};

// One row of sums, which is overwritten.
template <class T>
void finish_row(const MatmulArgs& args, const AmxPlan& plan, const AmxResults& to, float* sums) {
  using V = typename T::V;
  std::uint16_t fixed[kSumTiles * kTileColumns];
  for (std::size_t v = 0; v * kLanes<V> < to.columns; ++v) {
    const std::size_t at = v * kLanes<V>;
    const std::byte* trailer = to.trailer + v / T::kVectors * plan.panel_bytes;
    const V bias = to.bias == nullptr ? V(0.0f) : load_up_to<V>(to.bias + at, to.columns - at);
    if constexpr (T::kWritesFixed) {
      if (to.fixed != nullptr) {
        store_fixed(fixed + at, T::fixed(T::load(sums + at), trailer, v % T::kVectors, to.head) +
                                    bias * V(kFixedOfOne));
        continue;
      }
    }
    const V value = T::value(T::load(sums + at), trailer, v % T::kVectors, to.head);
    store_vector(sums + at, clamped(args.epilogue, value + bias));
  }
  if (to.fixed != nullptr) {
    __builtin_memcpy(to.fixed, fixed, to.columns * sizeof *fixed);
    return;
  }
  if (!is_clamp(args.epilogue)) {
    const std::size_t vectors = (to.columns + kLanes<V> - 1) / kLanes<V>;
    activate_rows<V>(args.epilogue, sums, 0, 1, vectors * kLanes<V>);
  }
  copy_floats<V>(sums, to.columns, to.c);
}

template <class T>
void finish_group(const MatmulArgs& args, const AmxPlan& plan, AmxResults to, float* sums) {
  for (std::size_t r = 0; r < plan.rows; ++r) {
    finish_row<T>(args, plan, to, sums + r * plan.columns());
    to.head += to.head_stride;
    to.c += args.c_stride;
    if (to.fixed != nullptr) to.fixed += args.n;
  }
}

// All rows by up to plan.columns() columns from `column` on.
template <class T, class Instructions>
void rows_by_columns(const MatmulArgs& args, const AmxPlan& plan, std::size_t column) {
  alignas(64) float sums[2 * kTileRows * 2 * kTileColumns];
  const std::size_t left = args.n_end - column;
  const std::size_t columns = left < plan.columns() ? left : plan.columns();
  const std::byte* panel =
      static_cast<const std::byte*>(args.packed) + column / kColumns<T> * plan.panel_bytes;
  for (std::size_t line = 0; line < args.m / plan.line_rows; ++line) {
    const auto* a = static_cast<const std::byte*>(args.a) + line * args.line_stride_bytes;
    for (std::size_t group = 0; group < plan.groups; ++group) {
      const std::size_t last = plan.line_rows - plan.rows, even = group * plan.rows;
      const std::size_t begin = even < last ? even : last, row = line * plan.line_rows + begin;
      const std::byte* first = a + begin * plan.a_stride;
      const bool own_head = args.head == nullptr;
      sum_group<T, Instructions>(plan, own_head ? first + T::kHeader : first, panel, columns, sums);
      finish_group<T>(
          args, plan,
          {.head = own_head ? first : static_cast<const std::byte*>(args.head),
           .head_stride = own_head ? plan.a_stride : 0,
           .trailer = panel + plan.panel_bytes - T::kTrailer * kColumns<T>,
           .bias = args.bias == nullptr ? nullptr : args.bias + column,
           .c = args.c + row * args.c_stride + column,
           .fixed = args.fixed == nullptr ? nullptr : args.fixed + row * args.n + column,
           .columns = columns},
          sums);
    }
  }
}

template <class T, class Instructions>
void amx_multiply(const MatmulArgs& args) {
  if (args.m == 0 || args.n_begin == args.n_end) return;
  const AmxPlan plan = amx_plan<T>(args);
  Instructions::configure(amx_config(plan));
  for (std::size_t column = args.n_begin; column < args.n_end; column += plan.columns()) {
    rows_by_columns<T, Instructions>(args, plan, column);
  }
  // Tiles in use are saved with the thread, and keep its core from resting deeply.
  Instructions::release();
}

// What the tiles do; all else is missing (with_tiles() in kernels/targets.h).
template <class Instructions>
constexpr Kernels amx_kernels(const char* name) {
  using I8 = I8Amx<Instructions>;
  using Bf16 = Bf16Amx<Instructions>;
  Kernels kernels{};
  kernels.target = name;
  kernels.bf16 = bf16_matmul<Bf16>(amx_multiply<Bf16, Instructions>);
  kernels.i8 = i8_matmul<I8>(amx_multiply<I8, Instructions>);
  kernels.depthwise3x3 = depthwise3x3<I8>;
  return kernels;
}

}  // namespace
}  // namespace splitee::kernels
