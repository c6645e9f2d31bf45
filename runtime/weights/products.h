// Products of rows with packed weights, shared out between threads, and the memory for them.
// Thread rule: as ThreadPool::share(). Determinism: a row's result depends neither on the rows
// beside it nor on the threads.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

#include "kernels/kernels.h"
#include "runtime/thread_pool.h"
#include "runtime/weights/linear.h"

namespace splitee::runtime {

struct FreeAligned {
  static constexpr std::align_val_t kAlignment{64};
  void operator()(void* memory) const { ::operator delete(memory, kAlignment); }
};
template <class T>
using AlignedBuffer = std::unique_ptr<T[], FreeAligned>;
// Not set to anything: pages that nobody touches cost nothing.
template <class T>
AlignedBuffer<T> allocate_aligned(std::size_t count) {
  return AlignedBuffer<T>(
      static_cast<T*>(::operator new(count * sizeof(T), FreeAligned::kAlignment)));
}

// Bytes of a row of up to `widest` values that is prepared for a product of any arithmetic.
std::size_t prepared_bytes(const kernels::Kernels& kernels, std::size_t widest);

// Prepares rows [begin, end) of a (rows, linear.in), where the kernel asks for it.
void prepare_rows(const Linear& linear, const float* a, std::size_t begin, std::size_t end,
                  std::byte* prepared);
// a (rows, linear.in) as the linear's kernel wants it: in `prepared`, or as it is.
const void* prepare(const Linear& linear, const float* a, std::size_t rows, std::byte* prepared,
                    ThreadPool& pool);
// Columns [begin, end) of c (rows, linear.out) = a W^T + bias, `a` from prepare(). `begin` is a
// multiple of the kernel's columns.
void multiply(const Linear& linear, const void* a, float* c, std::size_t rows, std::size_t begin,
              std::size_t end, ThreadPool& pool,
              kernels::Epilogue epilogue = kernels::Epilogue::kNone);

// Rows of an operation on rows that are worth handing to another thread.
std::size_t row_grain(std::size_t cols);

}  // namespace splitee::runtime
