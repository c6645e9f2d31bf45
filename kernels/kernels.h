// The operations of encoders and of networks on images, as a table of plain function pointers per
// target (one instruction set). The table is chosen once, at start; nothing is chosen per call.
//
// Thread rule: tables are immutable; every function is re-entrant and keeps no state.
// Ownership: nothing is allocated; all buffers are the caller's. No alignment is asked for but that
// of the type named; packed weights and prepared rows are fastest at multiples of 64 bytes.
// Errors: none; sizes are preconditions (checked where model and input are loaded).
// Shapes are "(rows, cols)", row major; a stride is the distance between rows, in elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace splitee::kernels {

// What a matmul does with a result before it writes it; a NaN stays one.
// kRelu6: min(max(x, 0), 6). kHardSwish: x * kRelu6(x + 3) / 6 (Howard et al. 2019).
enum class Epilogue { kNone, kGelu, kGeluTanh, kRelu, kSilu, kRelu6, kHardSwish };

// Maps of values in [0, 6], as kRelu6 leaves them, in integers, rounded to nearest even, a NaN as
// 0. A fixed map: round(value * kFixedOfOne), std::uint16_t. A byte map: u = round(value *
// kUnitsOfOne), a byte in the form in which the i8 arithmetic of the target multiplies
// q = u - Matmul::byte_zero.
inline constexpr float kFixedSteps = 65535.0f, kFixedOfOne = kFixedSteps / 6.0f;
inline constexpr float kByteSteps = 254.0f, kUnitsOfOne = kByteSteps / 6.0f;

// C = epilogue(A W^T + bias) for columns [n_begin, n_end) of C. A (m, k), W (n, k) as PyTorch's
// Linear stores it, bias (n) or null, C (m, n).
struct MatmulArgs {
  // f32: the rows of floats themselves, any stride. Else rows that `prepare` made,
  // prepared_bytes(k) apart.
  const void* a;
  std::size_t a_stride_bytes;
  const void* packed;
  const float* bias;
  float* c;
  std::size_t c_stride;
  std::size_t m, n, k;
  // n_begin is a multiple of Matmul::columns, so that threads can share one product.
  std::size_t n_begin, n_end;
  Epilogue epilogue = Epilogue::kNone;

  // Rows of A that are windows over a map, read where they lie. They come in lines of line_rows
  // (0: one line of m), line_stride_bytes apart; m is a multiple. A row is `parts` pieces of
  // k / parts values, part_stride_bytes apart; where the arithmetic prepares rows, a piece is a
  // multiple of 4 values. `head`: of all rows, where they are pieces of one prepared row (then `a`
  // and the strides are those of its values); null: each row has its own.
  std::size_t line_rows = 0, line_stride_bytes = 0;
  std::size_t parts = 1, part_stride_bytes = 0;
  const void* head = nullptr;

  // i8 with k <= 4096 and kRelu6: C as a fixed map, its rows n values apart, in place of c.
  std::uint16_t* fixed = nullptr;
};

// out = softmax(q k^T / sqrt(head_size)) v for heads [head_begin, head_end) of one sample.
// q and out (q_rows, heads * head_size), k and v (kv_rows, heads * head_size), each with its
// stride.
struct AttentionArgs {
  const float* q;
  std::size_t q_stride;
  const float* k;
  std::size_t k_stride;
  const float* v;
  std::size_t v_stride;
  float* out;
  std::size_t out_stride;
  std::size_t q_rows, kv_rows, head_size;
  std::size_t head_begin, head_end;
  float* scratch;
};

// 3 x 3 windows over a map of pixels, padded by one on each side. x (height * width, channels), out
// (ceil(height / stride) * ceil(width / stride), channels), both line by line, without gaps; lines
// [begin, end) of out.
struct WindowArgs {
  const float* x;
  std::size_t height, width, channels;
  std::size_t stride;    // 1 or 2
  const float* weights;  // (9, channels), the window line by line
  const float* bias;     // (channels)
  float* out;
  std::size_t begin, end;
  Epilogue epilogue = Epilogue::kNone;
  // depthwise3x3 with kRelu6: a byte map in place of out, and then where there is one a fixed map
  // in place of x.
  const std::uint16_t* fixed_x = nullptr;
  std::byte* byte_out = nullptr;
};

// A matrix product in one arithmetic. Every element of C is the same sequence of operations
// whatever the split of the columns and the rows beside it.
//
// f32   W float. Sums in float32.
// bf16  W bfloat16 (std::uint16_t), A rounded to bfloat16, to nearest even; sums in float32 of
//       products that are exact, in an order that depends on the target. Subnormal products may
//       count as zero.
// i8    W std::int8_t times a scale per row. Each row of A is quantised when it is prepared: a is
//       the element times its column's scale, where there are such; scale_a = max|a| / 127,
//       q = a * (127 / max|a|) rounded to nearest even, so |q| <= 127. A row with max|a| < 1e-30
//       counts as zeros; one with a NaN or infinity gives NaN in all of its results. The sum over k
//       of q * w is exact for k <= 131072; then
//       ((float(sum) * scale_w) * scale_a) + bias, each step rounded: the same bits on every
//       target (not those of an epilogue but kRelu).
struct Matmul {
  // Columns of a panel: the grain at which a product can be shared out.
  std::size_t columns;
  // Of a prepared row, or of floats: bytes before its values, bytes of a value.
  std::size_t head_bytes, value_bytes;
  // i8 alone: what u - q is in a byte map.
  std::int32_t byte_zero;

  // Bytes of one prepared row of A, a multiple of 64.
  std::size_t (*prepared_bytes)(std::size_t k);
  // Rows a (rows, k) to prepared rows, prepared_bytes(k) apart. A prepared row stands for itself
  // alone, so rows can be prepared by several threads, or one by one where they are produced, while
  // they are in the cache (after layer_norm, attention, the product before). column_scales: (k) or
  // null, for i8 alone. A few columns with large values leave the others few of the 255 steps:
  // scales make them smaller, and W has them larger. Null for f32.
  void (*prepare)(const float* a, std::size_t a_stride, const float* column_scales,
                  std::size_t rows, std::size_t k, void* prepared);

  // W is packed once, at load; the packed form belongs to this target and arithmetic alone and may
  // be copied and moved as bytes.
  std::size_t (*packed_bytes)(std::size_t n, std::size_t k);
  // Packs rows [row, row + rows) of W (n, k), given as `w` (rows, k) in the stored type, so that a
  // caller can convert a few rows at a time. Rows may come in any order, and disjoint ranges from
  // several threads where they start at multiples of `columns`. scales (rows): i8 alone.
  void (*pack_rows)(const void* w, const float* scales, std::size_t row, std::size_t rows,
                    std::size_t n, std::size_t k, void* packed);

  void (*multiply)(const MatmulArgs& args);
};

struct Kernels {
  // Word used for the target everywhere: scalar, sse4.2, avx2, avx2vnni, avx512, avx512vnni,
  // avx512bf16 (with VNNI), avx512amx, neon, neon-dotprod, neon-i8mm (with BF16).
  const char* target;

  // --- matmul, by the type of the weights ----------------------------------------------------
  Matmul f32;
  Matmul bf16;
  Matmul i8;

  // --- attention (Vaswani et al. 2017, eq. 1), one sample, no mask ---------------------------
  // attention_scratch(q_rows, kv_rows, head_size): floats of scratch, one per concurrent call. A
  // row of the result is the same bits whatever rows of q are beside it.
  std::size_t (*attention_scratch)(std::size_t q_rows, std::size_t kv_rows, std::size_t head_size);
  void (*attention)(const AttentionArgs& args);
  // bfloat16 on avx512bf16. Elsewhere it is `attention` itself.
  void (*attention_bf16)(const AttentionArgs& args);

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
  // The same paper's approximation: x * 0.5 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))).
  void (*gelu_tanh)(float* x, std::size_t n);
  // max(x, 0), and x / (1 + exp(-x)); a NaN stays one.
  void (*relu)(float* x, std::size_t n);
  void (*silu)(float* x, std::size_t n);
  // In place.
  void (*tanh)(float* x, std::size_t n);
  // out (rows, cols) = word[ids[r]] + position[r] + type[types[r]]; tables are (entries, cols),
  // contiguous. Every id and type is within its table, rows within `position`.
  void (*embed)(const std::int32_t* ids, const std::int32_t* types, const float* word,
                const float* position, const float* type, float* out, std::size_t rows,
                std::size_t cols);

  // --- maps of pixels: NHWC, one image -------------------------------------------------------
  // out = epilogue(sum over the window of x * weights + bias), each channel on its own; outside x
  // is 0.
  void (*depthwise3x3)(const WindowArgs& args);
  // The largest of the window; outside there is nothing. Without weights, bias and epilogue.
  void (*max_pool3x3)(const WindowArgs& args);
  // out (cols) = the mean of x (rows, cols) over its rows.
  void (*mean_rows)(const float* x, std::size_t rows, std::size_t cols, float* out);
  // In place: x = epilogue(x + y).
  void (*add)(float* x, const float* y, std::size_t n, Epilogue epilogue);
};

// Every target compiled into this program for this architecture, best first, scalar last. Before
// scalar stands avx512amx, which was never run on its hardware: by name alone it is chosen.
std::span<const Kernels* const> compiled_targets();

// Whether this CPU (and operating system) can run it. Where it can run avx512amx, asks the system
// to let this process use it.
bool supported(const Kernels& kernels);

// The best supported target; or the one named, where `name` is not empty. Null if that name is
// unknown or this CPU lacks it.
const Kernels* find_target(std::string_view name);

// The word in the environment variable SPLITEE_TARGET, else empty. Callers pass a flag's value
// first, this next.
std::string_view target_from_environment();

}  // namespace splitee::kernels
