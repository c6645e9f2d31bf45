#include "runtime/weights/products.h"

#include <algorithm>

namespace splitee::runtime {
namespace {

// Bytes between the rows that a product reads.
std::size_t operand_stride(const Linear& linear) {
  return linear.kernel->prepare == nullptr ? linear.in * sizeof(float)
                                           : linear.kernel->prepared_bytes(linear.in);
}

// Panels of a product that are worth handing to another thread, some microseconds of work: reading
// their weights takes as long as multiplying them by some rows.
std::size_t panel_grain(std::size_t rows, std::size_t in, std::size_t columns) {
  constexpr std::size_t kProducts = 1 << 20, kReading = 16;
  return 1 + kProducts / ((rows + kReading) * in * columns);
}

}  // namespace

std::size_t prepared_bytes(const kernels::Kernels& kernels, std::size_t widest) {
  std::size_t most = 0;
  for (const kernels::Matmul* matmul : {&kernels.f32, &kernels.bf16, &kernels.i8}) {
    if (matmul->prepare != nullptr) most = std::max(most, matmul->prepared_bytes(widest));
  }
  return most;
}

std::size_t row_grain(std::size_t cols) {
  constexpr std::size_t kElements = 1 << 14;
  return 1 + kElements / cols;
}

void prepare_rows(const Linear& linear, const float* a, std::size_t begin, std::size_t end,
                  std::byte* prepared) {
  if (linear.kernel->prepare == nullptr) return;
  const float* scales = linear.input_scales.empty() ? nullptr : linear.input_scales.data();
  linear.kernel->prepare(a + begin * linear.in, linear.in, scales, end - begin, linear.in,
                         prepared + begin * operand_stride(linear));
}

const void* prepare(const Linear& linear, const float* a, std::size_t rows, std::byte* prepared,
                    ThreadPool& pool) {
  if (linear.kernel->prepare == nullptr) return a;
  pool.share(rows, row_grain(linear.in), [&](std::size_t, std::size_t begin, std::size_t end) {
    prepare_rows(linear, a, begin, end, prepared);
  });
  return prepared;
}

void multiply(const Linear& linear, const void* a, float* c, std::size_t rows, std::size_t begin,
              std::size_t end, ThreadPool& pool, kernels::Epilogue epilogue) {
  const kernels::Matmul& kernel = *linear.kernel;
  const std::size_t panels = (end - begin + kernel.columns - 1) / kernel.columns;
  const std::size_t grain = panel_grain(rows, linear.in, kernel.columns);
  pool.share(panels, grain, [&](std::size_t, std::size_t first, std::size_t last) {
    kernel.multiply({.a = a,
                     .a_stride_bytes = operand_stride(linear),
                     .packed = linear.packed,
                     .bias = linear.bias.data(),
                     .c = c,
                     .c_stride = linear.out,
                     .m = rows,
                     .n = linear.out,
                     .k = linear.in,
                     .n_begin = begin + first * kernel.columns,
                     .n_end = std::min(begin + last * kernel.columns, end),
                     .epilogue = epilogue});
  });
}

}  // namespace splitee::runtime
