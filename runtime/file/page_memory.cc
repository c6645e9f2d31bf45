#include "runtime/file/page_memory.h"

#include <cstdint>
#include <string>
#include <utility>

#include <sys/mman.h>

namespace splitee::runtime {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::byte* map(std::size_t bytes, int flags) {
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags,
                      /*fd=*/-1, /*offset=*/0);
  return data == MAP_FAILED ? nullptr : static_cast<std::byte*>(data);
}

// Memory at a multiple of a huge page, so that it can be made of them. Faults of small pages take
// longer than the copy that touches them.
std::byte* map_huge(std::size_t bytes) {
  std::byte* all = map(bytes + kHugePage, 0);
  if (all == nullptr) return nullptr;
  const std::size_t before = -reinterpret_cast<std::uintptr_t>(all) % kHugePage;
  if (before != 0) ::munmap(all, before);
  ::munmap(all + before + bytes, kHugePage - before);
  // The rest of a huge page stays in small ones: none is touched beyond what is used. Refused
  // where the system has no huge pages, which is no error.
  ::madvise(all + before, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  return all + before;
}

}  // namespace

Result<PageMemory> PageMemory::allocate(std::size_t bytes, Use use) {
  PageMemory memory;
  if (bytes == 0) return memory;
  // munmap() takes whole pages.
  constexpr std::size_t kPage = 65536;  // a multiple of any page's size
  const std::size_t rounded =
      bytes > SIZE_MAX - 2 * kHugePage ? 0 : (bytes + kPage - 1) / kPage * kPage;
  if (rounded != 0) {
    memory.data_ = use == Use::kSparse    ? map(rounded, MAP_NORESERVE)
                   : rounded >= kHugePage ? map_huge(rounded)
                                          : map(rounded, 0);
  }
  if (memory.data_ == nullptr) {
    return Status(Code::kIo, "not enough memory for " + std::to_string(bytes) + " bytes");
  }
  memory.size_ = rounded;
  return memory;
}

PageMemory::PageMemory(PageMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

PageMemory& PageMemory::operator=(PageMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

PageMemory::~PageMemory() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace splitee::runtime
