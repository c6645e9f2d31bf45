// Tensor elements as floats.
// Thread rule: pure functions. Errors: none; sizes are preconditions. Nothing is allocated.
#pragma once

#include <cstddef>
#include <span>

#include "base/floats.h"
#include "runtime/file/gguf.h"

namespace splitee::runtime {

// out[i] = element begin + i of `data`, elements of `type`. I8 elements as they are, unscaled.
// Precondition: the elements lie within `data`.
void to_floats(TensorType type, std::span<const std::byte> data, std::size_t begin,
               std::span<float> out);

using splitee::all_finite;
// Of elements of `type`, at any address.
bool all_finite(TensorType type, std::span<const std::byte> data);

}  // namespace splitee::runtime
