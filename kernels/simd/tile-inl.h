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
//   kTrailer                 bytes per column in a panel's trailer
//   Left, Right, Sum         what a step needs of a row and of kLanes<V> columns; their sums
//   left(p), right(p), dot(left, right, sum)
//   begin(trailer, v)        the first value of a sum; v is the vector's index in the panel
//   load(c), store(c, sum)   a sum between blocks
//   value(sum, trailer, v, row)  the product, given the start of the row of A
#pragma once

#include <cstddef>
#include <tuple>
#include <utility>

#include "kernels/kernels.h"
#include "kernels/simd/elements-inl.h"
#include "kernels/simd/vector-inl.h"

namespace splitee::kernels {
namespace {

// A single row takes several panels at once, to have enough independent sums.
constexpr std::size_t kOneRowPanels = 4;

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
  return (k + T::kDepth - 1) / T::kDepth;
}
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
  const std::byte* row;      // first row of A
  const std::byte* a;        // the same where the block begins
  std::size_t a_stride;      // bytes
  const std::byte* b;        // the block of the panel
  const std::byte* trailer;  // of the panel
  std::size_t panel_stride;  // bytes to the next panel
  std::size_t steps;
  bool first, last;   // block
  const float* bias;  // of the panel
  float* c;
  std::size_t c_stride;
  // Where the next panel is prefetched from: kPrefetches places next_part bytes apart, next_step
  // further on with every step.
  const std::byte* next;
  std::size_t next_part, next_step;
};

template <class T, std::size_t kRows, std::size_t kVectors>
void sum_steps(const TileArgs& args, typename T::Sum (&sums)[kRows][kVectors]) {
  const std::byte* a = args.a;
  const std::byte* b = args.b;
  const std::byte* next = args.next;
#pragma GCC unroll 4
  for (std::size_t i = 0; i < args.steps; ++i) {
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
    for (std::size_t p = 0; p < kPrefetches<T>; ++p) __builtin_prefetch(next + p * args.next_part);
    next += args.next_step;
    a += T::kLeft;
    b += kStepBytes<T>;
  }
}

template <class T, std::size_t kRows, std::size_t kPanels>
void tile(const TileArgs& args) {
  using V = typename T::V;
  constexpr std::size_t kVectors = kPanels * T::kVectors;
  // In locals: what is stored below could be `args` itself for all that the compiler knows.
  const auto [row, a_stride, trailers, panel_stride, bias, c, c_stride] = std::tuple(
      args.row, args.a_stride, args.trailer, args.panel_stride, args.bias, args.c, args.c_stride);
  const bool last = args.last;
  typename T::Sum sums[kRows][kVectors];
#pragma GCC unroll 16
  for (std::size_t v = 0; v < kVectors; ++v) {
    const std::byte* trailer = trailers + v / T::kVectors * panel_stride;
#pragma GCC unroll 16
    for (std::size_t r = 0; r < kRows; ++r) sums[r][v] = T::begin(trailer, v % T::kVectors);
  }
  if (!args.first) {
#pragma GCC unroll 16
    for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (std::size_t v = 0; v < kVectors; ++v) {
        sums[r][v] = T::load(c + r * c_stride + v * kLanes<V>);
      }
    }
  }
  sum_steps<T, kRows, kVectors>(args, sums);
  if (!last) {
#pragma GCC unroll 16
    for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
      for (std::size_t v = 0; v < kVectors; ++v) {
        T::store(c + r * c_stride + v * kLanes<V>, sums[r][v]);
      }
    }
    return;
  }
#pragma GCC unroll 16
  for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (std::size_t v = 0; v < kVectors; ++v) {
      const std::byte* trailer = trailers + v / T::kVectors * panel_stride;
      const V value = T::value(sums[r][v], trailer, v % T::kVectors, row + r * a_stride);
      store_vector(c + r * c_stride + v * kLanes<V>, value + load_vector<V>(bias + v * kLanes<V>));
    }
  }
}

using TileFunction = void (*)(const TileArgs&);

// at[rows - 1] computes that many rows of one panel.
template <class T, class Indices = std::make_index_sequence<T::kRows>>
struct Tiles;
template <class T, std::size_t... kIndex>
struct Tiles<T, std::index_sequence<kIndex...>> {
  static constexpr TileFunction at[] = {tile<T, kIndex + 1, 1>...};
};

template <class V>
void gelu_rows(float* c, std::size_t c_stride, std::size_t rows, std::size_t cols) {
  for (std::size_t r = 0; r < rows; ++r) for_each<V, gelu_vector<V>>(c + r * c_stride, cols);
}

// All m > 0 rows of one panel, in the tile's whole columns. The rows are shared out evenly, so that
// no tile is left with one or two of them.
template <class T>
void rows_times_panel(TileArgs args, std::size_t m, bool gelu) {
  const std::size_t tiles = (m + T::kRows - 1) / T::kRows;
  args.next_step = (kStepBytes<T> / kPrefetches<T> + tiles - 1) / tiles;
  for (std::size_t t = 0; t < tiles; ++t) {
    const std::size_t rows = m / tiles + (t < m % tiles ? 1 : 0);
    Tiles<T>::at[rows - 1](args);
    if (gelu && args.last) gelu_rows<typename T::V>(args.c, args.c_stride, rows, kColumns<T>);
    args.row += rows * args.a_stride;
    args.a += rows * args.a_stride;
    args.c += rows * args.c_stride;
    args.next += args.steps * args.next_step;
  }
}

// The first `columns` columns of one panel: its tiles go to memory of whole panels first.
template <class T>
void rows_times_part(TileArgs args, std::size_t m, std::size_t columns, bool gelu) {
  float bias[kColumns<T>];
  float part[T::kRows * kColumns<T>];
  for (std::size_t i = 0; i < kColumns<T>; ++i) bias[i] = i < columns ? args.bias[i] : 0.0f;
  args.bias = bias;
  float* c = args.c;
  const std::size_t tiles = (m + T::kRows - 1) / T::kRows;
  for (std::size_t t = 0; t < tiles; ++t) {
    const std::size_t rows = m / tiles + (t < m % tiles ? 1 : 0);
    TileArgs whole = args;
    whole.c = part;
    whole.c_stride = kColumns<T>;
    Tiles<T>::at[rows - 1](whole);
    if (gelu) gelu_rows<typename T::V>(part, kColumns<T>, rows, kColumns<T>);
    for (std::size_t r = 0; r < rows; ++r, c += args.c_stride) {
      for (std::size_t i = 0; i < columns; ++i) c[i] = part[r * kColumns<T> + i];
    }
    args.row += rows * args.a_stride;
    args.a += rows * args.a_stride;
  }
}

template <class T>
void multiply(const MatmulArgs& args) {
  using V = typename T::V;
  if (args.m == 0) return;
  const std::size_t steps = steps_of<T>(args.k), stride = panel_bytes<T>(args.k);
  static constexpr float no_bias[kOneRowPanels * kColumns<T>] = {};
  const bool gelu = args.epilogue == Epilogue::kGelu;
  const auto* a = static_cast<const std::byte*>(args.a);
  const auto* panels = static_cast<const std::byte*>(args.packed);
  const std::size_t whole_end =
      args.n_begin + (args.n_end - args.n_begin) / kColumns<T> * kColumns<T>;
  const auto tile_args = [&](std::size_t column, std::size_t begin, std::size_t block) {
    const std::byte* panel = panels + column / kColumns<T> * stride;
    const std::byte* b = panel + begin * kStepBytes<T>;
    return TileArgs{.row = a,
                    .a = a + T::kHeader + begin * T::kLeft,
                    .a_stride = args.a_stride_bytes,
                    .b = b,
                    .trailer = panel + steps * kStepBytes<T>,
                    .panel_stride = stride,
                    .steps = block,
                    .first = begin == 0,
                    .last = begin + block == steps,
                    .bias = args.bias == nullptr ? no_bias : args.bias + column,
                    .c = args.c + column,
                    .c_stride = args.c_stride,
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
        tile<T, 1, kOneRowPanels>(tile_of);
        if (gelu && tile_of.last) gelu_rows<V>(tile_of.c, 0, 1, kOneRowPanels * kColumns<T>);
        column += kOneRowPanels * kColumns<T>;
        continue;
      }
      rows_times_panel<T>(tile_of, args.m, gelu);
      column += kColumns<T>;
    }
    begin += block;
  } while (begin < steps);
  if (whole_end < args.n_end) {
    rows_times_part<T>(tile_args(whole_end, 0, steps), args.m, args.n_end - whole_end, gelu);
  }
}

}  // namespace
}  // namespace splitee::kernels
