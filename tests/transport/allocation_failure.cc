#include "tests/transport/allocation_failure.h"

#include <cstdlib>
#include <new>

namespace {

thread_local std::size_t until_failure = 0, failures_left = 0;
thread_local bool failed = false;

bool fails_now() {
  if (until_failure == 0) return false;
  if (until_failure > 1) {
    --until_failure;
    return false;
  }
  failed = true;
  if (failures_left == 0) until_failure = 0;
  if (failures_left > 0) --failures_left;
  return true;
}

}  // namespace

void* operator new(std::size_t bytes) {
  if (!fails_now()) {
    if (void* memory = std::malloc(bytes)) return memory;
  }
  throw std::bad_alloc();
}
// Libraries that ask this way are not failed: ZeroMQ ends the process where it gets nothing.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return std::malloc(bytes);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace splitee::transport::testing {

void fail_allocation(std::size_t number, std::size_t also) {
  until_failure = number;
  failures_left = also;
  failed = false;
}

bool allocation_failed() {
  return failed;
}

}  // namespace splitee::transport::testing
