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

void attention(const AttentionArgs& a) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(a.head_size));
  for (std::size_t head = a.head_begin; head < a.head_end; ++head) {
    const std::size_t offset = head * a.head_size;
    for (std::size_t row = 0; row < a.q_rows; ++row) {
      for (std::size_t j = 0; j < a.kv_rows; ++j) {
        float dot = 0.0f;
        for (std::size_t d = 0; d < a.head_size; ++d) {
          dot += a.q[row * a.q_stride + offset + d] * a.k[j * a.k_stride + offset + d];
        }
        a.scratch[j] = dot * scale;
      }
      softmax(a.scratch, a.kv_rows, 1, a.kv_rows);
      float* result = a.out + row * a.out_stride + offset;
      std::fill(result, result + a.head_size, 0.0f);
      for (std::size_t j = 0; j < a.kv_rows; ++j) {
        const float* value = a.v + j * a.v_stride + offset;
        for (std::size_t d = 0; d < a.head_size; ++d) result[d] += a.scratch[j] * value[d];
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

template <float (*operation)(float)>
void for_each(float* x, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) x[i] = operation(x[i]);
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

// Calls visit(out, x, w) for each pixel of the window that lies within the map.
template <class Begin, class Visit, class End>
void each_window(const WindowArgs& a, const Begin& begin, const Visit& visit, const End& end) {
  const std::size_t out_width = (a.width + a.stride - 1) / a.stride;
  for (std::size_t row = a.begin; row < a.end; ++row) {
    for (std::size_t col = 0; col < out_width; ++col) {
      float* out = a.out + (row * out_width + col) * a.channels;
      begin(out);
      for (std::size_t w = 0; w < 9; ++w) {
        const std::size_t y = row * a.stride + w / 3, x = col * a.stride + w % 3;  // one too far
        if (y < 1 || y > a.height || x < 1 || x > a.width) continue;
        visit(out, a.x + ((y - 1) * a.width + x - 1) * a.channels, w);
      }
      end(out);
    }
  }
}

void depthwise3x3_to_bytes(const WindowArgs& a) {
  const std::size_t out_width = (a.width + a.stride - 1) / a.stride;
  const bool floats = a.fixed_x == nullptr;
  const float of_one = floats ? 1.0f : kFixedOfOne;
  for (std::size_t i = a.begin * out_width * a.channels; i < a.end * out_width * a.channels; ++i) {
    const std::size_t c = i % a.channels, pixel = i / a.channels;
    float sum = a.bias[c] * of_one;
    for (std::size_t w = 0; w < 9; ++w) {
      const std::size_t y = pixel / out_width * a.stride + w / 3;  // one too far
      const std::size_t x = pixel % out_width * a.stride + w % 3;
      if (y < 1 || y > a.height || x < 1 || x > a.width) continue;
      const std::size_t at = ((y - 1) * a.width + x - 1) * a.channels + c;
      const float value = floats ? a.x[at] : static_cast<float>(a.fixed_x[at]);
      sum += value * a.weights[w * a.channels + c];
    }
    const std::int32_t units = scalar::rounded_up_to(sum * (kUnitsOfOne / of_one), kByteSteps);
    a.byte_out[i] = static_cast<std::byte>(units - scalar::kByteZero);
  }
}

void depthwise3x3(const WindowArgs& a) {
  if (a.byte_out != nullptr) return depthwise3x3_to_bytes(a);
  each_window(
      a, [&](float* out) { std::copy_n(a.bias, a.channels, out); },
      [&](float* out, const float* x, std::size_t w) {
        for (std::size_t c = 0; c < a.channels; ++c) out[c] += x[c] * a.weights[w * a.channels + c];
      },
      [&](float* out) {
        for (std::size_t c = 0; c < a.channels; ++c) out[c] = scalar::activated(a.epilogue, out[c]);
      });
}

void max_pool3x3(const WindowArgs& a) {
  each_window(
      a, [&](float* out) { std::fill_n(out, a.channels, -HUGE_VALF); },
      [&](float* out, const float* x, std::size_t) {
        for (std::size_t c = 0; c < a.channels; ++c) out[c] = out[c] > x[c] ? out[c] : x[c];
      },
      [](float*) {});
}

void mean_rows(const float* x, std::size_t rows, std::size_t cols, float* out) {
  std::fill_n(out, cols, 0.0f);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t i = 0; i < cols; ++i) out[i] += x[r * cols + i];
  }
  for (std::size_t i = 0; i < cols; ++i) out[i] /= static_cast<float>(rows);
}

void add(float* x, const float* y, std::size_t n, Epilogue epilogue) {
  for (std::size_t i = 0; i < n; ++i) x[i] = scalar::activated(epilogue, x[i] + y[i]);
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
    .gelu = for_each<scalar::gelu_value>,
    .gelu_tanh = for_each<scalar::gelu_tanh_value>,
    .relu = for_each<scalar::relu_value>,
    .silu = for_each<scalar::silu_value>,
    .tanh = tanh_all,
    .embed = embed,
    .depthwise3x3 = depthwise3x3,
    .max_pool3x3 = max_pool3x3,
    .mean_rows = mean_rows,
    .add = add,
};

}  // namespace

const Kernels& scalar_target() {
  return kKernels;
}

}  // namespace splitee::kernels
