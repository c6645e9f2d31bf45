// Operations on rows: softmax, layer norm, embedding.
#pragma once

#include "kernels/simd/math-inl.h"

namespace splitee::kernels {
namespace {

// x = exp(scale (x - max(x))), scale > 0; the sum of the results.
template <class V>
float exp_row(float* x, std::size_t cols, float scale) {
  constexpr float kLowest = -__builtin_inff();
  V largest(kLowest);
  std::size_t i = 0;
  for (; i + kLanes<V> <= cols; i += kLanes<V>)
    largest = xsimd::max(largest, load_vector<V>(x + i));
  if (i < cols) largest = xsimd::max(largest, load_first<V>(x + i, cols - i, kLowest));
  const V max(max_lanes(largest));

  V sum(0.0f);
  for (i = 0; i + kLanes<V> <= cols; i += kLanes<V>) {
    const V e = exp_vector((load_vector<V>(x + i) - max) * V(scale));
    store_vector(x + i, e);
    sum = sum + e;
  }
  if (i < cols) {
    const V e = exp_vector((load_first<V>(x + i, cols - i, kLowest) - max) * V(scale));
    store_first(x + i, cols - i, e);
    sum = sum + e;
  }
  return sum_lanes(sum);
}

template <class V>
void scale_row(float* x, std::size_t cols, float scale) {
  std::size_t i = 0;
  for (; i + kLanes<V> <= cols; i += kLanes<V>)
    store_vector(x + i, load_vector<V>(x + i) * V(scale));
  if (i < cols) store_first(x + i, cols - i, load_first<V>(x + i, cols - i, 0.0f) * V(scale));
}

template <class V>
void softmax(float* x, std::size_t stride, std::size_t rows, std::size_t cols) {
  for (std::size_t r = 0; r < rows; ++r) {
    float* row = x + r * stride;
    scale_row<V>(row, cols, 1.0f / exp_row<V>(row, cols, 1.0f));
  }
}

// out = x + residual; the sum of the row.
template <class V>
float add_row(const float* x, const float* residual, float* out, std::size_t cols) {
  V sum(0.0f);
  std::size_t i = 0;
  for (; i + kLanes<V> <= cols; i += kLanes<V>) {
    V value = load_vector<V>(x + i);
    if (residual != nullptr) value = value + load_vector<V>(residual + i);
    store_vector(out + i, value);
    sum = sum + value;
  }
  if (i < cols) {
    V value = load_first<V>(x + i, cols - i, 0.0f);
    if (residual != nullptr) value = value + load_first<V>(residual + i, cols - i, 0.0f);
    store_first(out + i, cols - i, value);
    sum = sum + value;
  }
  return sum_lanes(sum);
}

// The sum of (x - mean)^2.
template <class V>
float squares_row(const float* x, std::size_t cols, float mean) {
  V sum(0.0f);
  std::size_t i = 0;
  for (; i + kLanes<V> <= cols; i += kLanes<V>) {
    const V d = load_vector<V>(x + i) - V(mean);
    sum = multiply_add(d, d, sum);
  }
  if (i < cols) {
    const V d = load_first<V>(x + i, cols - i, mean) - V(mean);
    sum = multiply_add(d, d, sum);
  }
  return sum_lanes(sum);
}

// x = (x - mean) * scale * gamma + beta.
template <class V>
void normalise_row(float* x, const float* gamma, const float* beta, std::size_t cols, float mean,
                   float scale) {
  std::size_t i = 0;
  for (; i + kLanes<V> <= cols; i += kLanes<V>) {
    const V d = (load_vector<V>(x + i) - V(mean)) * V(scale);
    store_vector(x + i, multiply_add(d, load_vector<V>(gamma + i), load_vector<V>(beta + i)));
  }
  if (i < cols) {
    const std::size_t left = cols - i;
    const V d = (load_first<V>(x + i, left, mean) - V(mean)) * V(scale);
    store_first(
        x + i, left,
        multiply_add(d, load_first<V>(gamma + i, left, 0.0f), load_first<V>(beta + i, left, 0.0f)));
  }
}

template <class V>
void layer_norm(const float* x, std::size_t x_stride, const float* residual,
                std::size_t residual_stride, const float* gamma, const float* beta, float epsilon,
                float* out, std::size_t out_stride, std::size_t rows, std::size_t cols) {
  const float count = static_cast<float>(cols);
  for (std::size_t r = 0; r < rows; ++r) {
    float* row = out + r * out_stride;
    const float* residual_row = residual == nullptr ? nullptr : residual + r * residual_stride;
    const float mean = add_row<V>(x + r * x_stride, residual_row, row, cols) / count;
    const float variance = squares_row<V>(row, cols, mean) / count;
    normalise_row<V>(row, gamma, beta, cols, mean, 1.0f / __builtin_sqrtf(variance + epsilon));
  }
}

template <class V>
void embed(const std::int32_t* ids, const std::int32_t* types, const float* word,
           const float* position, const float* type, float* out, std::size_t rows,
           std::size_t cols) {
  for (std::size_t r = 0; r < rows; ++r) {
    const float* word_row = word + static_cast<std::size_t>(ids[r]) * cols;
    const float* type_row = type + static_cast<std::size_t>(types[r]) * cols;
    const float* position_row = position + r * cols;
    float* row = out + r * cols;
    std::size_t i = 0;
    for (; i + kLanes<V> <= cols; i += kLanes<V>) {
      store_vector(row + i, load_vector<V>(word_row + i) + load_vector<V>(position_row + i) +
                                load_vector<V>(type_row + i));
    }
    for (; i < cols; ++i) row[i] = word_row[i] + position_row[i] + type_row[i];
  }
}

}  // namespace
}  // namespace splitee::kernels
