// Looks at the start whether the system lets a program have what it is going to need, because some
// libraries end the process where it does not.
// Thread rule: free functions; before the program has threads of its own.
#pragma once

#include <cstddef>

#include "base/status.h"

namespace splitee::tools {

struct Needs {
  std::size_t descriptors = 0;  // beyond those open now
  std::size_t threads = 0;      // beyond the one that asks
  std::size_t bytes = 0;        // of address space, beyond the threads' stacks
};

// Raises the limit on open files as far as it goes, then says which limit is too low, and what is
// needed.
Status check_resources(const Needs& needs);

}  // namespace splitee::tools
