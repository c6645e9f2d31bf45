// C = A W^T + bias in register tiles: kRows rows of A times kVectors vectors of columns of W,
// after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
//
// Packed W: panels of kColumns rows of W, each panel (k, kColumns), the last one padded with zeros.
// The k dimension is cut into blocks, so that a block of a panel stays in the first-level cache
// while all rows of A pass it; C collects the blocks. Every element of C is the same sequence of
// operations whatever the rows and columns beside it.
#pragma once

#include <utility>

#include "kernels/kernels.h"
#include "kernels/simd/elements-inl.h"
#include "kernels/simd/vector-inl.h"

namespace splitee::kernels {
namespace {

// The shape of a target's tile.
//   kRows x kVectors accumulators, kVectors loads and one broadcast have to fit the registers.
template <class ArchType, std::size_t kRowsOfTile, std::size_t kVectorsOfTile,
          std::size_t kDepthOfBlock>
struct Tile {
  using Arch = ArchType;
  using V = Vector<Arch>;
  static constexpr std::size_t kRows = kRowsOfTile;
  static constexpr std::size_t kVectors = kVectorsOfTile;
  static constexpr std::size_t kColumns = kVectors * kLanes<V>;
  static constexpr std::size_t kBlock = kDepthOfBlock;
  // A single row takes several panels at once, to have enough independent sums.
  static constexpr std::size_t kOneRowPanels = 4;
};

// Operands of one tile. The result is a b + addend, where addend is null (zero), a bias (stride 0)
// or C itself.
struct TileArgs {
  const float* a;
  std::size_t a_stride;
  const float* b;  // (k, columns of a panel), further panels at b + panel_stride
  std::size_t panel_stride;
  const float* addend;
  std::size_t addend_stride;
  float* c;
  std::size_t c_stride;
  std::size_t k;
  // Where the next panel is prefetched from, and by how much with every step.
  const float* next;
  std::size_t next_step;
};

template <class T, std::size_t kRows, std::size_t kPanels>
void tile(const TileArgs& args) {
  using V = typename T::V;
  constexpr std::size_t kVectors = T::kVectors;
  V sums[kRows][kPanels * kVectors];
#pragma GCC unroll 16
  for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (std::size_t v = 0; v < kPanels * kVectors; ++v) sums[r][v] = V(0.0f);
  }
  const float* a = args.a;
  const float* b = args.b;
  const float* next = args.next;
  for (std::size_t i = 0; i < args.k; ++i) {
    V columns[kPanels * kVectors];
#pragma GCC unroll 16
    for (std::size_t v = 0; v < kPanels * kVectors; ++v) {
      columns[v] = load_vector<V>(b + v / kVectors * args.panel_stride + v % kVectors * kLanes<V>);
    }
#pragma GCC unroll 16
    for (std::size_t r = 0; r < kRows; ++r) {
      const V row(a[r * args.a_stride]);
#pragma GCC unroll 16
      for (std::size_t v = 0; v < kPanels * kVectors; ++v) {
        sums[r][v] = multiply_add(row, columns[v], sums[r][v]);
      }
    }
    __builtin_prefetch(next);
    next += args.next_step;
    ++a;
    b += T::kColumns;
  }
#pragma GCC unroll 16
  for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 16
    for (std::size_t v = 0; v < kPanels * kVectors; ++v) {
      const std::size_t column = v * kLanes<V>;
      V sum = sums[r][v];
      if (args.addend != nullptr) {
        sum = sum + load_vector<V>(args.addend + r * args.addend_stride + column);
      }
      store_vector(args.c + r * args.c_stride + column, sum);
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

// The first `columns` columns of a tile that went to `tile_c`: those of the last panel of W.
template <class T>
void add_columns(const TileArgs& args, const float* tile_c, std::size_t rows, std::size_t columns) {
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t i = 0; i < columns; ++i) {
      const float addend = args.addend == nullptr ? 0.0f : args.addend[r * args.addend_stride + i];
      args.c[r * args.c_stride + i] = tile_c[r * T::kColumns + i] + addend;
    }
  }
}

// All m > 0 rows of the first `columns` columns of one panel. The rows are shared out evenly, so
// that no tile is left with one or two of them.
template <class T>
void rows_times_panel(TileArgs args, std::size_t m, std::size_t columns) {
  const std::size_t tiles = (m + T::kRows - 1) / T::kRows;
  args.next_step = T::kColumns / tiles;
  for (std::size_t t = 0; t < tiles; ++t) {
    const std::size_t rows = m / tiles + (t < m % tiles ? 1 : 0);
    if (columns == T::kColumns) {
      Tiles<T>::at[rows - 1](args);
    } else {
      float tile_c[T::kRows * T::kColumns];
      TileArgs whole = args;
      whole.addend = nullptr;
      whole.c = tile_c;
      whole.c_stride = T::kColumns;
      Tiles<T>::at[rows - 1](whole);
      add_columns<T>(args, tile_c, rows, columns);
    }
    args.a += rows * args.a_stride;
    args.c += rows * args.c_stride;
    if (args.addend != nullptr) args.addend += rows * args.addend_stride;
    args.next += args.k * args.next_step;
  }
}

template <class T>
void matmul(const float* a, std::size_t a_stride, const float* packed, const float* bias, float* c,
            std::size_t c_stride, std::size_t m, std::size_t, std::size_t k, std::size_t n_begin,
            std::size_t n_end) {
  if (m == 0) return;
  std::size_t begin = 0;
  do {
    const std::size_t block = k - begin < T::kBlock ? k - begin : T::kBlock;
    TileArgs args = {.a = a + begin,
                     .a_stride = a_stride,
                     .b = nullptr,
                     .panel_stride = T::kColumns * k,
                     .addend = nullptr,
                     .addend_stride = begin == 0 ? 0 : c_stride,
                     .c = nullptr,
                     .c_stride = c_stride,
                     .k = block,
                     .next = nullptr,
                     .next_step = 0};
    for (std::size_t column = n_begin; column < n_end;) {
      args.b = packed + column * k + begin * T::kColumns;
      args.c = c + column;
      const bool last = column + T::kColumns >= n_end;
      args.next =
          last ? packed + n_begin * k + (begin + block) * T::kColumns : args.b + args.panel_stride;
      args.addend = begin > 0 ? args.c : bias == nullptr ? nullptr : bias + column;
      if (m == 1 && n_end - column >= T::kOneRowPanels * T::kColumns) {
        tile<T, 1, T::kOneRowPanels>(args);
        column += T::kOneRowPanels * T::kColumns;
      } else {
        const std::size_t left = n_end - column;
        rows_times_panel<T>(args, m, left < T::kColumns ? left : T::kColumns);
        column += T::kColumns;
      }
    }
    begin += block;
  } while (begin < k);
}

template <class T>
std::size_t packed_size(std::size_t n, std::size_t k) {
  return (n + T::kColumns - 1) / T::kColumns * T::kColumns * k;
}

// Rows [row, row + rows) of W, at `w` with this stride, to their columns of the panels.
template <class T>
void pack(const float* w, std::size_t w_stride, std::size_t row, std::size_t rows, std::size_t n,
          std::size_t k, float* packed) {
  constexpr std::size_t kStep = 4;
  for (std::size_t done = 0; done < rows;) {
    const std::size_t column = row + done;
    float* to = packed + column / T::kColumns * T::kColumns * k + column % T::kColumns;
    const float* from = w + done * w_stride;
    if (column % kStep == 0 && rows - done >= kStep) {
      std::size_t i = 0;
      for (; i + kStep <= k; i += kStep) {
        transpose4(from + i, w_stride, to + i * T::kColumns, T::kColumns);
      }
      for (; i < k; ++i) {
        for (std::size_t j = 0; j < kStep; ++j) to[i * T::kColumns + j] = from[j * w_stride + i];
      }
      done += kStep;
    } else {
      for (std::size_t i = 0; i < k; ++i) to[i * T::kColumns] = from[i];
      ++done;
    }
  }
  if (row + rows < n || n % T::kColumns == 0) return;
  float* last = packed + n / T::kColumns * T::kColumns * k;
  for (std::size_t i = 0; i < k; ++i) {
    for (std::size_t j = n % T::kColumns; j < T::kColumns; ++j) last[i * T::kColumns + j] = 0.0f;
  }
}

// --- as entries of the table (kernels.h, Matmul) ------------------------------------------------
std::size_t f32_prepared_bytes(std::size_t k) {
  return (k * sizeof(float) + 63) / 64 * 64;
}

template <class T>
std::size_t f32_packed_bytes(std::size_t n, std::size_t k) {
  return packed_size<T>(n, k) * sizeof(float);
}

template <class T>
void f32_pack_rows(const void* w, const float*, std::size_t row, std::size_t rows, std::size_t n,
                   std::size_t k, void* packed) {
  pack<T>(static_cast<const float*>(w), k, row, rows, n, k, static_cast<float*>(packed));
}

template <class T>
void f32_multiply(const MatmulArgs& args) {
  matmul<T>(static_cast<const float*>(args.a), args.a_stride_bytes / sizeof(float),
            static_cast<const float*>(args.packed), args.bias, args.c, args.c_stride, args.m,
            args.n, args.k, args.n_begin, args.n_end);
  if (args.epilogue != Epilogue::kGelu) return;
  for (std::size_t r = 0; r < args.m; ++r) {
    for_each<typename T::V, gelu_vector<typename T::V>>(args.c + r * args.c_stride + args.n_begin,
                                                        args.n_end - args.n_begin);
  }
}

}  // namespace
}  // namespace splitee::kernels
