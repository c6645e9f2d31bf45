// What the int8 arithmetics share: scales, preparing of A, packing of W. A panel's trailer holds
// the scales of its columns and, where the arithmetic multiplies q - kOffset, kOffset times the
// sums of the rows of W.
#pragma once

#include "kernels/quantise-inl.h"
#include "kernels/simd/pack-inl.h"
#include "kernels/simd/tile-inl.h"

namespace splitee::kernels {
namespace {

template <class V>
struct I8Scales {
  // The scale of a prepared row stands at its start.
  static constexpr std::size_t kHeader = 64, kCuts = 1, kRowsOfSum = 1;
  static constexpr bool kWritesFixed = true;
  static constexpr std::size_t padded_steps(std::size_t steps) { return steps; }
  // (sum * scale_w) * scale_a
  static V scaled(V sum, const std::byte* trailer, std::size_t v, const std::byte* row,
                  float factor = 1.0f) {
    float scale_a;
    __builtin_memcpy(&scale_a, row, sizeof scale_a);
    const auto* scales = floats_at(trailer) + v * kLanes<V>;
    return sum * load_vector<V>(scales) * V(scale_a * factor);
  }
};

template <class T>
std::size_t i8_prepared_bytes(std::size_t k) {
  return T::kHeader + (steps_of<T>(k) * T::kLeft + 63) / 64 * 64;
}

// A row of A before it is quantised: its elements, or each times its column's scale.
template <class V>
struct PlainRow {
  const float* a;
  V whole(std::size_t i) const { return load_vector<V>(a + i); }
  V up_to(std::size_t i, std::size_t count) const { return load_up_to<V>(a + i, count); }
};
template <class V>
struct ScaledRow {
  const float* a;
  const float* scales;
  V whole(std::size_t i) const { return load_vector<V>(a + i) * load_vector<V>(scales + i); }
  V up_to(std::size_t i, std::size_t count) const {
    return load_up_to<V>(a + i, count) * load_up_to<V>(scales + i, count);
  }
};

// The largest magnitude_bits() of a row.
template <class V, class Row>
std::int32_t largest_bits(const Row& a, std::size_t k) {
  Ints<V> parts[4] = {};
  std::size_t i = 0;
  for (; i + 4 * kLanes<V> <= k; i += 4 * kLanes<V>) {
    for (std::size_t p = 0; p < 4; ++p) {
      const Ints<V> bits = bits_of(a.whole(i + p * kLanes<V>)) & 0x7fffffff;
      parts[p] = larger(parts[p], bits);
    }
  }
  for (; i < k; i += kLanes<V>) {
    parts[0] = larger(parts[0], bits_of(a.up_to(i, k - i)) & 0x7fffffff);
  }
  Ints<V> largest = larger(larger(parts[0], parts[1]), larger(parts[2], parts[3]));
  for (std::size_t lanes = 1; lanes < kLanes<V>; lanes *= 2) {
    Ints<V> low, high;
    interleave(largest, largest, low, high);
    largest = larger(low, high);
  }
  return largest[0];
}

// Adding 1.5 * 2^23 rounds to an integer, left in the low bits of the sum.
template <class V>
Ints<V> quantise(V value, V inverse) {
  const V rounder(12582912.0f);
  return bits_of(value * inverse + rounder) - bits_of(rounder);
}

template <class T, class Row>
void i8_prepare_row(const Row& a, std::size_t k, std::byte* row) {
  using V = typename T::V;
  static_assert(T::kLeft == T::kDepth);
  const RowScale scale = row_scale(largest_bits<V>(a, k));
  __builtin_memset(row, 0, T::kHeader);
  __builtin_memcpy(row, &scale.scale, sizeof scale.scale);
  const V inverse(scale.inverse);
  const bool zero = scale.inverse == 0.0f;  // whatever the row has: NaN times zero is not
  std::byte* to = row + T::kHeader;
  std::size_t i = 0;
  for (; !zero && i + 4 * kLanes<V> <= k; i += 4 * kLanes<V>) {
    Ints<V> q[4];
    for (std::size_t p = 0; p < 4; ++p) {
      q[p] = quantise(a.whole(i + p * kLanes<V>), inverse);
    }
    T::store_lefts(to + i, q);
  }
  for (; i < k; i += kLanes<V>) {
    T::store_left(to + i, zero ? Ints<V>{} : quantise(a.up_to(i, k - i), inverse));
  }
  // A few bytes, of a row that may be as short: a call would take longer.
  for (std::byte* end = row + i8_prepared_bytes<T>(k); to + i != end; i += kLanes<V>) {
    __builtin_memset(to + i, 0, kLanes<V>);
  }
}

template <class T>
void i8_prepare(const float* a, std::size_t a_stride, const float* column_scales, std::size_t rows,
                std::size_t k, void* prepared) {
  using V = typename T::V;
  auto* row = static_cast<std::byte*>(prepared);
  for (std::size_t r = 0; r < rows; ++r, a += a_stride, row += i8_prepared_bytes<T>(k)) {
    if (column_scales == nullptr) {
      i8_prepare_row<T>(PlainRow<V>{a}, k, row);
    } else {
      i8_prepare_row<T>(ScaledRow<V>{a, column_scales}, k, row);
    }
  }
}

template <class T>
void i8_pack_rows(const void* w, const float* scales, std::size_t row, std::size_t rows,
                  std::size_t n, std::size_t k, void* packed) {
  const auto* from = static_cast<const std::byte*>(w);
  pack_cells<T>(from, k, row, rows, n, k, static_cast<std::byte*>(packed));
  const std::size_t end = row + rows < n ? n : (n + kColumns<T> - 1) / kColumns<T> * kColumns<T>;
  const auto set = [&](std::size_t column, float scale, std::int32_t sum) {
    std::byte* trailer = static_cast<std::byte*>(packed) +
                         column / kColumns<T> * panel_bytes<T>(k) + steps_of<T>(k) * kStepBytes<T>;
    trailer += column % kColumns<T> * sizeof(float);
    __builtin_memcpy(trailer, &scale, sizeof scale);
    if constexpr (T::kOffset != 0) {
      const std::int32_t offset = T::kOffset * sum;
      __builtin_memcpy(trailer + kColumns<T> * sizeof(float), &offset, sizeof offset);
    }
  };
  for (std::size_t r = 0; r < rows; ++r) {
    const auto* values = reinterpret_cast<const std::int8_t*>(from + r * k);
    std::int32_t sum = 0;
    if constexpr (T::kOffset != 0) {
      for (std::size_t i = 0; i < k; ++i) sum += values[i];
    }
    set(row + r, scales[r], sum);
  }
  for (std::size_t column = n; column < end; ++column) set(column, 0.0f, 0);
}

template <class T>
constexpr Matmul i8_matmul(void (*product)(const MatmulArgs&) = multiply<T>) {
  return {.columns = kColumns<T>,
          .head_bytes = T::kHeader,
          .value_bytes = T::kLeft / T::kDepth,
          .byte_zero = T::kByteZero,
          .prepared_bytes = i8_prepared_bytes<T>,
          .prepare = i8_prepare<T>,
          .packed_bytes = packed_bytes<T>,
          .pack_rows = i8_pack_rows<T>,
          .multiply = product};
}

}  // namespace
}  // namespace splitee::kernels
