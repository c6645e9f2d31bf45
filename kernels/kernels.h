// The operations of a BERT-like encoder, as a table of plain function pointers per target (one
// instruction set). The table is chosen once, at start; nothing is chosen per call.
//
// Thread rule: tables are immutable; every function is re-entrant and keeps no state.
// Ownership: nothing is allocated; all buffers are the caller's. No alignment is asked for.
// Errors: none; sizes are preconditions (checked where model and input are loaded).
// Shapes are "(rows, cols)", row major; a stride is the distance between rows, in elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace splitee::kernels {

struct Kernels {
  // Word used for the target everywhere: scalar, sse4.2, avx2, avx512, neon.
  const char* target;

  // --- fp32 matmul: C = A W^T + bias --------------------------------------------------------
  // A (M, K), W (N, K) as PyTorch's Linear stores it, bias (N) or null, C (M, N).
  // W is packed once at load; the packed form belongs to this target alone.
  // Elements (floats) of the packed form of an (n, k) matrix.
  std::size_t (*packed_size)(std::size_t n, std::size_t k);
  // Packs rows [row, row + rows) of W (n, k), given as `w` (rows, k), so that a caller can
  // dequantise a few rows at a time. Rows may come in any order.
  void (*pack_rows)(const float* w, std::size_t row, std::size_t rows, std::size_t n, std::size_t k,
                    float* packed);
  // Computes columns [n_begin, n_end) of C; n_begin is a multiple of `matmul_columns`, so that
  // threads can share one product. Same result for any split.
  void (*matmul)(const float* a, std::size_t a_stride, const float* packed, const float* bias,
                 float* c, std::size_t c_stride, std::size_t m, std::size_t n, std::size_t k,
                 std::size_t n_begin, std::size_t n_end);
  std::size_t matmul_columns;

  // --- attention (Vaswani et al. 2017, eq. 1), one sample, no mask ---------------------------
  // For heads [head_begin, head_end): out = softmax(q k^T / sqrt(head_size)) v.
  // q (q_rows, heads * head_size), k and v (kv_rows, heads * head_size), each with its stride;
  // head h takes columns [h * head_size, (h + 1) * head_size). out (q_rows, heads * head_size).
  // scratch: attention_scratch(q_rows, kv_rows, head_size) floats, one per concurrent call.
  std::size_t (*attention_scratch)(std::size_t q_rows, std::size_t kv_rows, std::size_t head_size);
  void (*attention)(const float* q, std::size_t q_stride, const float* k, std::size_t k_stride,
                    const float* v, std::size_t v_stride, float* out, std::size_t out_stride,
                    std::size_t q_rows, std::size_t kv_rows, std::size_t head_size,
                    std::size_t head_begin, std::size_t head_end, float* scratch);

  // --- rows and elements ---------------------------------------------------------------------
  // In place, each row on its own: exp(x - max) / sum. x (rows, cols).
  void (*softmax)(float* x, std::size_t stride, std::size_t rows, std::size_t cols);
  // out = (s - mean(s)) / sqrt(var(s) + epsilon) * gamma + beta over each row, where s = x, or
  // x + residual if residual is not null (Ba et al. 2016; biased variance). out may be x.
  // All (rows, cols) with their own strides; gamma, beta (cols).
  void (*layer_norm)(const float* x, std::size_t x_stride, const float* residual,
                     std::size_t residual_stride, const float* gamma, const float* beta,
                     float epsilon, float* out, std::size_t out_stride, std::size_t rows,
                     std::size_t cols);
  // In place: x * 0.5 * (1 + erf(x / sqrt 2)) (Hendrycks & Gimpel 2016, exact form).
  void (*gelu)(float* x, std::size_t n);
  // In place.
  void (*tanh)(float* x, std::size_t n);
  // out (rows, cols) = word[ids[r]] + position[r] + type[types[r]]; tables are (entries, cols),
  // contiguous. Every id and type is within its table, rows within `position`.
  void (*embed)(const std::int32_t* ids, const std::int32_t* types, const float* word,
                const float* position, const float* type, float* out, std::size_t rows,
                std::size_t cols);
};

// Every target compiled into this program for this architecture, best first, scalar last.
std::span<const Kernels* const> compiled_targets();

// Whether this CPU (and operating system) can run it.
bool supported(const Kernels& kernels);

// The best supported target; or the one named, where `name` is not empty. Null if that name is
// unknown or this CPU lacks it.
const Kernels* find_target(std::string_view name);

// The word in the environment variable SPLITEE_TARGET, else empty. Callers pass a flag's value
// first, this next.
std::string_view target_from_environment();

}  // namespace splitee::kernels
