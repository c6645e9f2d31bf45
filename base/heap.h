// What the C library's allocator holds. Thread rule: any thread.
#pragma once

#include <cstdint>

namespace splitee {

// Bytes in use of the heap; 0 where the C library does not tell.
std::uint64_t heap_bytes();
// Gives free pages back to the system.
void trim_heap();

}  // namespace splitee
