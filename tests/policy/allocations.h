// Counts the calls of operator new in this test program.
#pragma once

#include <cstddef>

namespace splitee::policy {

std::size_t allocations_so_far();

}  // namespace splitee::policy
