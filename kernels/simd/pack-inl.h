// Packing of W into panels of cells (tile-inl.h).
#pragma once

#include "kernels/simd/tile-inl.h"

namespace splitee::kernels {
namespace {

// One row of W, `bytes` long, to its column of the panels.
template <std::size_t kCell>
void pack_row(const std::byte* from, std::size_t bytes, std::byte* to, std::size_t step_bytes) {
  for (; bytes >= kCell; bytes -= kCell, from += kCell, to += step_bytes) {
    __builtin_memcpy(to, from, kCell);
  }
  if (bytes == 0) return;
  std::byte cell[kCell] = {};
  __builtin_memcpy(cell, from, bytes);
  __builtin_memcpy(to, cell, kCell);
}

// Rows [row, row + rows) of W, at `w` and w_stride bytes apart.
template <class T>
void pack_cells(const std::byte* w, std::size_t w_stride, std::size_t row, std::size_t rows,
                std::size_t n, std::size_t k, std::byte* packed) {
  using V = typename T::V;
  // Cells of more bytes are placed one by one.
  constexpr bool kSquares = T::kCell == sizeof(float);
  constexpr std::size_t kSquare = kLanes<V>;
  const std::size_t row_bytes = k * T::kCell / T::kDepth, cells = row_bytes / T::kCell;
  const std::size_t begun = (k + T::kDepth - 1) / T::kDepth, steps = steps_of<T>(k);
  const auto place = [&](std::size_t column) {
    return packed + column / kColumns<T> * panel_bytes<T>(k) + column % kColumns<T> * T::kCell;
  };
  for (std::size_t done = 0; done < rows;) {
    const bool square = kSquares && (row + done) % kSquare == 0 && rows - done >= kSquare;
    const std::byte* from = w + done * w_stride;
    std::byte* to = place(row + done);
    std::size_t i = 0;
    for (; square && i + kSquare <= cells; i += kSquare) {
      transpose<V>(from + i * T::kCell, w_stride, to + i * kStepBytes<T>, kStepBytes<T>);
    }
    for (std::size_t j = 0; j < (square ? kSquare : 1); ++j) {
      pack_row<T::kCell>(from + j * w_stride + i * T::kCell, row_bytes - i * T::kCell,
                         to + j * T::kCell + i * kStepBytes<T>, kStepBytes<T>);
      for (std::size_t s = begun; s < steps; ++s) {
        __builtin_memset(to + j * T::kCell + s * kStepBytes<T>, 0, T::kCell);
      }
    }
    done += square ? kSquare : 1;
  }
  if (row + rows < n) return;
  for (std::size_t column = n; column % kColumns<T> != 0;) {
    const bool vector = kSquares && column % kSquare == 0;
    for (std::size_t i = 0; i < steps; ++i) {
      std::byte* to = place(column) + i * kStepBytes<T>;
      if (vector) {
        store_vector(floats_at(to), V(0.0f));
      } else {
        __builtin_memset(to, 0, T::kCell);
      }
    }
    column += vector ? kSquare : 1;
  }
}

}  // namespace
}  // namespace splitee::kernels
