// Makes an allocation fail, in the calling thread only.
#pragma once

#include <cstddef>

namespace splitee::transport::testing {

// The `number`th `new` of this thread from now on throws std::bad_alloc, counted from 1, and
// `also` more after it; 0: none does.
void fail_allocation(std::size_t number, std::size_t also = 0);
// Whether it has come to that.
bool allocation_failed();

}  // namespace splitee::transport::testing
