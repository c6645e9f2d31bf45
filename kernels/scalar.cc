// The reference: every other target is tested against this one. Compiled with
// -ffp-contract=off, so that its results do not depend on the compiler's choices.
#include <algorithm>
#include <cmath>

#include "kernels/scalar_matmul-inl.h"
#include "kernels/targets.h"

namespace splitee::kernels {
namespace {

void softmax(float* x, std::size_t stride, std::size_t rows, std::size_t cols) {
  if (cols == 0) return;
  for (std::size_t r = 0; r < rows; ++r) {
    float* row = x + r * stride;
    const float largest = *std::max_element(row, row + cols);
    float sum = 0.0f;
    for (std::size_t i = 0; i < cols; ++i) {
      row[i] = std::exp(row[i] - largest);
      sum += row[i];
    }
    for (std::size_t i = 0; i < cols; ++i) row[i] /= sum;
  }
}

std::size_t attention_scratch(std::size_t q_rows, std::size_t kv_rows, std::size_t head_size) {
  (void)q_rows;
  (void)head_size;
  return kv_rows;
}

void attention(const float* q, std::size_t q_stride, const float* k, std::size_t k_stride,
               const float* v, std::size_t v_stride, float* out, std::size_t out_stride,
               std::size_t q_rows, std::size_t kv_rows, std::size_t head_size,
               std::size_t head_begin, std::size_t head_end, float* scratch) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_size));
  for (std::size_t head = head_begin; head < head_end; ++head) {
    const std::size_t offset = head * head_size;
    for (std::size_t row = 0; row < q_rows; ++row) {
      for (std::size_t j = 0; j < kv_rows; ++j) {
        float dot = 0.0f;
        for (std::size_t d = 0; d < head_size; ++d) {
          dot += q[row * q_stride + offset + d] * k[j * k_stride + offset + d];
        }
        scratch[j] = dot * scale;
      }
      softmax(scratch, kv_rows, 1, kv_rows);
      float* result = out + row * out_stride + offset;
      std::fill(result, result + head_size, 0.0f);
      for (std::size_t j = 0; j < kv_rows; ++j) {
        const float* value = v + j * v_stride + offset;
        for (std::size_t d = 0; d < head_size; ++d) result[d] += scratch[j] * value[d];
      }
    }
  }
}

void layer_norm(const float* x, std::size_t x_stride, const float* residual,
                std::size_t residual_stride, const float* gamma, const float* beta, float epsilon,
                float* out, std::size_t out_stride, std::size_t rows, std::size_t cols) {
  const float count = static_cast<float>(cols);
  for (std::size_t r = 0; r < rows; ++r) {
    float* row = out + r * out_stride;
    float sum = 0.0f;
    for (std::size_t i = 0; i < cols; ++i) {
      const float value = x[r * x_stride + i];
      row[i] = residual == nullptr ? value : value + residual[r * residual_stride + i];
      sum += row[i];
    }
    const float mean = sum / count;
    float squares = 0.0f;
    for (std::size_t i = 0; i < cols; ++i) squares += (row[i] - mean) * (row[i] - mean);
    const float scale = 1.0f / std::sqrt(squares / count + epsilon);
    for (std::size_t i = 0; i < cols; ++i) row[i] = (row[i] - mean) * scale * gamma[i] + beta[i];
  }
}

void gelu(float* x, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) x[i] = scalar::gelu_value(x[i]);
}

void tanh_all(float* x, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) x[i] = std::tanh(x[i]);
}

void embed(const std::int32_t* ids, const std::int32_t* types, const float* word,
           const float* position, const float* type, float* out, std::size_t rows,
           std::size_t cols) {
  for (std::size_t r = 0; r < rows; ++r) {
    const float* word_row = word + static_cast<std::size_t>(ids[r]) * cols;
    const float* type_row = type + static_cast<std::size_t>(types[r]) * cols;
    const float* position_row = position + r * cols;
    for (std::size_t i = 0; i < cols; ++i) {
      out[r * cols + i] = word_row[i] + position_row[i] + type_row[i];
    }
  }
}

constexpr Kernels kKernels = {
    .target = "scalar",
    .f32 = scalar::matmul<scalar::F32>(nullptr),
    .bf16 = scalar::matmul<scalar::Bf16>(scalar::prepare_bf16),
    .i8 = scalar::matmul<scalar::I8>(scalar::prepare_i8),
    .attention_scratch = attention_scratch,
    .attention = attention,
    .attention_bf16 = attention,
    .softmax = softmax,
    .layer_norm = layer_norm,
    .gelu = gelu,
    .tanh = tanh_all,
    .embed = embed,
};

}  // namespace

const Kernels& scalar_target() {
  return kKernels;
}

}  // namespace splitee::kernels
