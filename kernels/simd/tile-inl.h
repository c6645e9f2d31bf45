// C = A W^T in register tiles: kRows rows of A times kVectors vectors of columns of W, after Goto
// and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008), for any arithmetic.
//
// Packed W: panels of kColumns rows of W. A panel is (steps, kColumns, kCell bytes): a cell holds
// the kDepth values of one column that one step multiplies; zeros pad the last panel and the last
// step. What an arithmetic needs beside (scales) follows in the panel's trailer.
//
// The steps are cut into blocks, so that what a block touches stays in the cache while all rows of
// A pass it; C keeps the sums between blocks. Every element of C is the same sequence of operations
// whatever the blocks, the rows and the columns beside it.
//
// An arithmetic T has
//   V                        vector of floats; kLanes<V> columns
//   kRows, kVectors          shape of the tile: kRows x kVectors sums, kVectors loads of W and one
//                            of A have to fit the registers
//   kBlock                   steps of a block
//   kDepth, kCell            values and bytes of a cell
//   kLeft, kHeader           bytes of a row of A for one step; bytes before the first step
//   kCuts                    2 where a piece of a row (MatmulArgs) may end in the middle of a step;
//                            a half of it is a unit. Else 1, and the step is the unit
//   kRowsOfSum               1, or 2 where a sum is of two rows of A (mmla-inl.h)
//   kTrailer                 bytes per column in a panel's trailer
//   padded_steps(steps)      steps of a panel, more where zeros are to follow (amx-inl.h)
//   Left, Right, Sum         what a step needs of a row and of kLanes<V> columns; their sums
//   left(p), right(p), dot(left, right, sum)
//   begin(trailer, v)        the first value of a sum; v is the vector's index in the panel
//   load(c), store(c, sum)   a sum between blocks
//   value(sum, trailer, v, row)  the product, given the start of the row of A
//   kWritesFixed             whether it writes fixed maps; then
//   fixed(sum, trailer, v, row)  value() times kFixedOfOne
// Where a sum is of two rows, left(p, q) and load(c, d) are given both, row(sum, i) is one of them,
// and store(), value() and fixed() take that.
#pragma once

#include <cstddef>
#include <tuple>
#include <utility>

#include "kernels/kernels.h"
#include "kernels/simd/elements-inl.h"
#include "kernels/simd/vector-inl.h"

namespace splitee::kernels {
namespace {

// A single row takes several panels at once, to have enough independent sums; as many as 16
// registers of 32-bit NEON hold.
#ifdef __arm__
constexpr std::size_t kOneRowPanels = 2;
#else
constexpr std::size_t kOneRowPanels = 4;
#endif

template <class T>
constexpr std::size_t kColumns = T::kVectors* kLanes<typename T::V>;
template <class T>
constexpr std::size_t kVectorBytes = T::kCell* kLanes<typename T::V>;
template <class T>
constexpr std::size_t kStepBytes = T::kCell* kColumns<T>;

// Lines of the next panel that a step can ask for. Two or more tiles pass a panel as a rule.
template <class T>
constexpr std::size_t kPrefetches = (kStepBytes<T> + 127) / 128;

template <class T>
std::size_t steps_of(std::size_t k) {
  return T::padded_steps((k + T::kDepth - 1) / T::kDepth);
}
template <class T>
std::size_t units_of(std::size_t k) {
  return (k * T::kCuts + T::kDepth - 1) / T::kDepth;
}
template <class T>
constexpr std::size_t kUnitBytes = T::kLeft / T::kCuts;
template <class T>
std::size_t panel_bytes(std::size_t k) {
  return steps_of<T>(k) * kStepBytes<T> + T::kTrailer * kColumns<T>;
}

template <class T>
std::size_t packed_bytes(std::size_t n, std::size_t k) {
  return (n + kColumns<T> - 1) / kColumns<T> * panel_bytes<T>(k);
}

// Operands of one tile.
struct TileArgs {
  const std::byte* row;      // head of the first row of A
  std::size_t row_stride;    // bytes
  const std::byte* a;        // the first row's values where the block begins
  std::size_t a_stride;      // bytes
  std::size_t first_part;    // units to the end of the piece that the block begins in
  std::size_t part;          // units of the next ones
  std::size_t part_jump;     // bytes from a piece's end to the next one
  const std::byte* b;        // the block of the panel
  const std::byte* trailer;  // of the panel
  std::size_t panel_stride;  // bytes to the next panel
  std::size_t units;         // of the block
  bool first, last;          // block
  Epilogue clamp;            // kRelu, kRelu6 or, for anything else, kNone
  const float* bias;         // of the panel
  float* c;
  std::size_t c_stride;
  std::uint16_t* fixed;  // null: to c
  std::size_t fixed_stride;
  // Where the next panel is prefetched from: kPrefetches places next_part bytes apart, next_step
  // further on with every unit.
  const std::byte* next;
  std::size_t next_part, next_step;
};

// kPieces: the rows of A may be of several.
template <class T, bool kPieces, std::size_t kRows, std::size_t kVectors>
void sum_steps(const TileArgs& args, typename T::Sum (&sums)[kRows][kVectors]) {
  const std::byte* a = args.a;
  const std::byte* b = args.b;
  const std::byte* next = args.next;
  std::size_t left = args.units;
  for (std::size_t part = kPieces ? args.first_part : left;; part = args.part) {
    const std::size_t steps = kPieces && part < left ? part : left;
#pragma GCC unroll 4
    for (std::size_t i = 0; i < steps; ++i) {
      typename T::Right columns[kVectors];
#pragma GCC unroll 16
      for (std::size_t v = 0; v < kVectors; ++v) {
        columns[v] =
            T::right(b + v / T::kVectors * args.panel_stride + v % T::kVectors * kVectorBytes<T>);
      }
#pragma GCC unroll 16
      for (std::size_t r = 0; r < kRows; ++r) {
        const typename T::Left row = T::left(a + r * args.a_stride);
#pragma GCC unroll 16
        for (std::size_t v = 0; v < kVectors; ++v) {
          sums[r][v] = T::dot(row, columns[v], sums[r][v]);
        }
      }
#pragma GCC unroll 16
      for (std::size_t p = 0; p < kPrefetches<T>; ++p) {
        __builtin_prefetch(next + p * args.next_part);
      }
      next += args.next_step;
      a += T::kLeft;
      b += kStepBytes<T>;
    }
    if constexpr (!kPieces) return;
    left -= steps;
    if (left == 0) return;
    a += args.part_jump;
  }
}

// As sum_steps(), of sums of two rows each; a last row alone is multiplied twice.
template <class T, bool kPieces, std::size_t kRows, std::size_t kSums, std::size_t kVectors>
void sum_pairs(const TileArgs& args, typename T::Sum (&sums)[kSums][kVectors]) {
  const std::byte* a = args.a;
  const std::byte* b = args.b;
  const std::byte* next = args.next;
  const auto step = [&](const auto& load) __attribute__((always_inline)) {
    typename T::Left rows[kSums];
#pragma GCC unroll 16
    for (std::size_t s = 0; s < kSums; ++s) {
      const std::size_t second = 2 * s + 1 < kRows ? 2 * s + 1 : 2 * s;
      rows[s] = load(a + 2 * s * args.a_stride, a + second * args.a_stride);
    }
#pragma GCC unroll 16
    for (std::size_t v = 0; v < kVectors; ++v) {
      const typename T::Right columns =
          T::right(b + v / T::kVectors * args.panel_stride + v % T::kVectors * kVectorBytes<T>);
#pragma GCC unroll 16
      for (std::size_t s = 0; s < kSums; ++s) sums[s][v] = T::dot(rows[s], columns, sums[s][v]);
    }
  };
  std::size_t left = args.units;
  bool begun = false;  // the first half of a step is done
  for (std::size_t part = kPieces ? args.first_part : left;; part = args.part) {
    const std::size_t units = kPieces && part < left ? part : left;
    std::size_t rest = units;
    if constexpr (T::kCuts == 2) {
      if (kPieces && begun) {
        step(T::second_half);
        a += kUnitBytes<T>;
        b += kStepBytes<T>;
        --rest;
      }
    }
#pragma GCC unroll 2
    for (std::size_t i = 0; i < rest / T::kCuts; ++i) {
      step(T::left);
#pragma GCC unroll 16
      for (std::size_t p = 0; p < kPrefetches<T>; ++p) {
        __builtin_prefetch(next + p * args.next_part);
      }
      next += T::kCuts * args.next_step;
      a += T::kLeft;
      b += kStepBytes<T>;
    }
    if constexpr (T::kCuts == 2) {
      begun = rest % 2 != 0;
      if (begun) {
        step(T::first_half);
        a += kUnitBytes<T>;
      }
    }
    if constexpr (!kPieces) return;
    left -= units;
    if (left == 0) return;
    a += args.part_jump;
  }
}

// Row i of a sum.
template <class T>
auto row_of(const typename T::Sum& sum, std::size_t i) {
  if constexpr (T::kRowsOfSum == 2) {
    return T::row(sum, i);
  } else {
    return sum;
  }
}

// kVectors: up to T::kVectors are the first ones of a panel, more are whole panels.
template <class T, bool kPieces, std::size_t kRows, std::size_t kVectors>
void tile(const TileArgs& args) {
  using V = typename T::V;
  // In locals: what is stored below could be `args` itself for all that the compiler knows.
  const auto [row, row_stride, trailers, panel_stride, bias, c, c_stride] = std::tuple(
      args.row, args.row_stride, args.trailer, args.panel_stride, args.bias, args.c, args.c_stride);
  const bool last = args.last;
  const Epilogue clamp = args.clamp;
  constexpr std::size_t kOfSum = T::kRowsOfSum, kSums = (kRows + kOfSum - 1) / kOfSum;
  typename T::Sum sums[kSums][kVectors];
#pragma GCC unroll 16
  for (std::size_t v = 0; v < kVectors; ++v) {
    const std::byte* trailer = trailers + v / T::kVectors * panel_stride;
#pragma GCC unroll 16
    for (std::size_t s = 0; s < kSums; ++s) sums[s][v] = T::begin(trailer, v % T::kVectors);
  }
  if (!args.first) {
#pragma GCC unroll 16
    for (std::size_t s = 0; s < kSums; ++s) {
#pragma GCC unroll 16
      for (std::size_t v = 0; v < kVectors; ++v) {
        const float* from = c + s * kOfSum * c_stride + v * kLanes<V>;
        if constexpr (kOfSum == 2) {
          sums[s][v] = T::load(from, 2 * s + 1 < kRows ? from + c_stride : from);
        } else {
          sums[s][v] = T::load(from);
        }
      }
    }
  }
  if constexpr (kOfSum == 2) {
    sum_pairs<T, kPieces, kRows>(args, sums);
  } else {
    sum_steps<T, kPieces>(args, sums);
  }
  if (!last) {
#pragma GCC unroll 16
    for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (std::size_t v = 0; v < kVectors; ++v) {
        T::store(c + r * c_stride + v * kLanes<V>, row_of<T>(sums[r / kOfSum][v], r % kOfSum));
      }
    }
    return;
  }
  if constexpr (T::kWritesFixed) {
    if (args.fixed != nullptr) {
      V fixed_bias[kVectors];
#pragma GCC unroll 16
      for (std::size_t v = 0; v < kVectors; ++v) {
        fixed_bias[v] = load_vector<V>(bias + v * kLanes<V>) * V(kFixedOfOne);
      }
      std::uint16_t* to = args.fixed;
      const std::size_t stride = args.fixed_stride;
#pragma GCC unroll 16
      for (std::size_t r = 0; r < kRows; ++r, to += stride) {
#pragma GCC unroll 16
        for (std::size_t v = 0; v < kVectors; ++v) {
          const std::byte* trailer = trailers + v / T::kVectors * panel_stride;
          const V value = T::fixed(row_of<T>(sums[r / kOfSum][v], r % kOfSum), trailer,
                                   v % T::kVectors, row + r * row_stride);
          store_fixed(to + v * kLanes<V>, value + fixed_bias[v]);
        }
      }
      return;
    }
  }
#pragma GCC unroll 16
  for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (std::size_t v = 0; v < kVectors; ++v) {
      const std::byte* trailer = trailers + v / T::kVectors * panel_stride;
      const V value = T::value(row_of<T>(sums[r / kOfSum][v], r % kOfSum), trailer, v % T::kVectors,
                               row + r * row_stride);
      store_vector(c + r * c_stride + v * kLanes<V>,
                   clamped(clamp, value + load_vector<V>(bias + v * kLanes<V>)));
    }
  }
}

using TileFunction = void (*)(const TileArgs&);

// at[vectors - 1][rows - 1] computes that many rows of that many vectors of one panel.
template <class T, bool kPieces, std::size_t kVectors,
          class Indices = std::make_index_sequence<T::kRows>>
struct TilesOfVectors;
template <class T, bool kPieces, std::size_t kVectors, std::size_t... kIndex>
struct TilesOfVectors<T, kPieces, kVectors, std::index_sequence<kIndex...>> {
  static constexpr TileFunction at[] = {tile<T, kPieces, kIndex + 1, kVectors>...};
};
template <class T, bool kPieces, class Indices = std::make_index_sequence<T::kVectors>>
struct Tiles;
template <class T, bool kPieces, std::size_t... kIndex>
struct Tiles<T, kPieces, std::index_sequence<kIndex...>> {
  static constexpr const TileFunction* at[] = {TilesOfVectors<T, kPieces, kIndex + 1>::at...};
};

// Rows of one piece have a loop of their own: within the other one it takes 2 % longer.
template <class T>
TileFunction tile_of_size(const TileArgs& args, std::size_t rows, std::size_t vectors) {
  const bool pieces = args.units > args.first_part;
  return (pieces ? Tiles<T, true>::at : Tiles<T, false>::at)[vectors - 1][rows - 1];
}

// The rows of A, all of them: lines of as many rows.
struct Rows {
  std::size_t lines, line_rows, line_stride, head_line_stride;
};

// body(args, rows) for tiles of at most kRows rows, none over the end of a line. A line's rows are
// shared out evenly, so that no tile is left with one or two of them.
template <std::size_t kRows, class Body>
void each_tile(TileArgs args, const Rows& rows, const Body& body) {
  const std::size_t tiles = (rows.line_rows + kRows - 1) / kRows;
  for (std::size_t line = 0; line < rows.lines; ++line) {
    const std::byte* row = args.row;
    const std::byte* a = args.a;
    for (std::size_t t = 0; t < tiles; ++t) {
      const std::size_t count = rows.line_rows / tiles + (t < rows.line_rows % tiles ? 1 : 0);
      body(args, count);
      args.row += count * args.row_stride;
      args.a += count * args.a_stride;
      args.c += count * args.c_stride;
      args.fixed += count * args.fixed_stride;
      args.next += args.units * args.next_step;
    }
    args.row = row + rows.head_line_stride;
    args.a = a + rows.line_stride;
  }
}

// All rows times the first `vectors` vectors of one panel.
template <class T>
void rows_times_panel(TileArgs args, const Rows& rows, std::size_t vectors, Epilogue epilogue) {
  const std::size_t tiles = rows.lines * ((rows.line_rows + T::kRows - 1) / T::kRows);
  args.next_step = (kStepBytes<T> / T::kCuts / kPrefetches<T> + tiles - 1) / tiles;
  each_tile<T::kRows>(args, rows, [&](const TileArgs& tile_of, std::size_t count) {
    tile_of_size<T>(tile_of, count, vectors)(tile_of);
    if (args.last && !is_clamp(epilogue)) {
      activate_rows<typename T::V>(epilogue, tile_of.c, args.c_stride, count,
                                   vectors * kLanes<typename T::V>);
    }
  });
}

// The first `columns` columns of one panel, not a whole number of vectors: its tiles go to memory
// of whole vectors first.
template <class T>
void rows_times_part(TileArgs args, const Rows& rows, std::size_t columns, Epilogue epilogue) {
  using V = typename T::V;
  const std::size_t vectors = (columns + kLanes<V> - 1) / kLanes<V>;
  float bias[kColumns<T>];
  float part[T::kRows * kColumns<T>];
  std::uint16_t fixed[T::kWritesFixed ? T::kRows * kColumns<T> : 1];
  for (std::size_t i = 0; i < kColumns<T>; ++i) bias[i] = i < columns ? args.bias[i] : 0.0f;
  args.bias = bias;
  each_tile<T::kRows>(args, rows, [&](const TileArgs& tile_of, std::size_t count) {
    TileArgs whole = tile_of;
    whole.c = part;
    whole.c_stride = kColumns<T>;
    if (args.fixed != nullptr) whole.fixed = fixed;
    whole.fixed_stride = kColumns<T>;
    tile_of_size<T>(whole, count, vectors)(whole);
    if (!is_clamp(epilogue)) {
      activate_rows<V>(epilogue, part, kColumns<T>, count, vectors * kLanes<V>);
    }
    if constexpr (T::kWritesFixed) {
      if (tile_of.fixed != nullptr) {
        for (std::size_t r = 0; r < count; ++r) {
          __builtin_memcpy(tile_of.fixed + r * args.fixed_stride, fixed + r * kColumns<T>,
                           columns * sizeof *fixed);
        }
        return;
      }
    }
    for (std::size_t r = 0; r < count; ++r) {
      copy_floats<V>(part + r * kColumns<T>, columns, tile_of.c + r * args.c_stride);
    }
  });
}

template <class T>
void multiply(const MatmulArgs& args) {
  using V = typename T::V;
  if (args.m == 0) return;
  const std::size_t steps = steps_of<T>(args.k), stride = panel_bytes<T>(args.k);
  static constexpr float no_bias[kOneRowPanels * kColumns<T>] = {};
  const auto* a = static_cast<const std::byte*>(args.a);
  const std::size_t head_bytes = args.head == nullptr ? T::kHeader : 0;
  const std::size_t units = units_of<T>(args.k), part = units == 0 ? 1 : units / args.parts;
  const std::size_t line_rows = args.line_rows == 0 ? args.m : args.line_rows;
  const Rows rows = {args.m / line_rows, line_rows, args.line_stride_bytes,
                     args.head == nullptr ? args.line_stride_bytes : 0};
  const auto* panels = static_cast<const std::byte*>(args.packed);
  const std::size_t whole_end =
      args.n_begin + (args.n_end - args.n_begin) / kColumns<T> * kColumns<T>;
  const auto tile_args = [&](std::size_t column, std::size_t begin, std::size_t block) {
    const std::byte* panel = panels + column / kColumns<T> * stride;
    const std::byte* b = panel + begin * kStepBytes<T>;
    const std::size_t first = begin * T::kCuts, block_end = (begin + block) * T::kCuts;
    return TileArgs{
        .row = args.head == nullptr ? a : static_cast<const std::byte*>(args.head),
        .row_stride = args.head == nullptr ? args.a_stride_bytes : 0,
        .a = a + head_bytes + first / part * args.part_stride_bytes + first % part * kUnitBytes<T>,
        .a_stride = args.a_stride_bytes,
        .first_part = part - first % part,
        .part = part,
        .part_jump = args.part_stride_bytes - part * kUnitBytes<T>,
        .b = b,
        .trailer = panel + steps * kStepBytes<T>,
        .panel_stride = stride,
        .units = (block_end < units ? block_end : units) - first,
        .first = begin == 0,
        .last = begin + block == steps,
        .clamp = is_clamp(args.epilogue) ? args.epilogue : Epilogue::kNone,
        .bias = args.bias == nullptr ? no_bias : args.bias + column,
        .c = args.c + column,
        .c_stride = args.c_stride,
        .fixed = args.fixed == nullptr ? nullptr : args.fixed + column,
        .fixed_stride = args.fixed == nullptr ? 0 : args.n,
        .next = b + stride,
        .next_part = block * kStepBytes<T> / kPrefetches<T>,
        .next_step = 0};
  };
  std::size_t begin = 0;
  do {
    const std::size_t block = steps - begin < T::kBlock ? steps - begin : T::kBlock;
    for (std::size_t column = args.n_begin; column < whole_end;) {
      const TileArgs tile_of = tile_args(column, begin, block);
      if (args.m == 1 && whole_end - column >= kOneRowPanels * kColumns<T>) {
        constexpr std::size_t kVectors = kOneRowPanels * T::kVectors;
        const bool pieces = tile_of.units > tile_of.first_part;
        (pieces ? tile<T, true, 1, kVectors> : tile<T, false, 1, kVectors>)(tile_of);
        if (tile_of.last && !is_clamp(args.epilogue)) {
          activate_rows<V>(args.epilogue, tile_of.c, 0, 1, kOneRowPanels * kColumns<T>);
        }
        column += kOneRowPanels * kColumns<T>;
        continue;
      }
      rows_times_panel<T>(tile_of, rows, T::kVectors, args.epilogue);
      column += kColumns<T>;
    }
    begin += block;
  } while (begin < steps);
  const std::size_t rest = args.n_end - whole_end;
  if (rest == 0) return;
  const TileArgs rest_args = tile_args(whole_end, 0, steps);
  if (rest % kLanes<V> == 0) {
    rows_times_panel<T>(rest_args, rows, rest / kLanes<V>, args.epilogue);
  } else {
    rows_times_part<T>(rest_args, rows, rest, args.epilogue);
  }
}

}  // namespace
}  // namespace splitee::kernels
