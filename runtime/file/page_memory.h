// Zeroed private memory straight from the system: pages that nobody touched cost nothing, large
// blocks get huge pages, and running out is an error, not an exception.
// Thread rule: plain memory. Ownership: unmapped at destruction.
#pragma once

#include <cstddef>

#include "base/status.h"

namespace splitee::runtime {

class PageMemory {
 public:
  enum class Use { kDense, kSparse };  // kSparse: little of it will be touched, here and there

  PageMemory() = default;
  // Fails where the system has not that much; the message says how much.
  static Result<PageMemory> allocate(std::size_t bytes, Use use);
  PageMemory(PageMemory&& other) noexcept;
  PageMemory& operator=(PageMemory&& other) noexcept;
  ~PageMemory();

  std::byte* data() const { return data_; }  // at a multiple of a page
  std::size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace splitee::runtime
