// Whether the heap holds more than is accounted for. The allocator is asked, because ZeroMQ does
// not tell what its sockets keep. Thread rule: one thread at a time.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/heap.h"

namespace splitee::transport {

class HeapWatch {
 public:
  // What is there now is our own.
  void rebase() { base_ = heap_bytes(); }
  // Whether `most` more than that is there, beyond what is `accounted` for. What has been freed was
  // not our own, whatever rebase() took it for.
  bool overgrown(std::uint64_t accounted, std::uint64_t most) {
    const std::uint64_t bytes = heap_bytes();
    base_ = std::min(base_, bytes);
    return bytes > base_ + accounted + most;
  }

 private:
  std::uint64_t base_ = 0;
};

}  // namespace splitee::transport
