// A model file with some keys replaced, everything else kept byte for byte.
// Thread rule: pure functions.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/gguf.h"

namespace splitee::tools {

struct FloatKey {
  std::string_view key;
  std::vector<float> values;
  bool is_array = true;  // else a single f32
};

// The bytes of `file` with `keys` in place of those of the same names, or added after the others,
// and a new splitee.content_hash (runtime/model_format.h). Tensors, their order and all other keys
// stay as they are. Precondition: the file has a content hash.
std::string with_keys(const runtime::Gguf& file, std::span<const FloatKey> keys);

}  // namespace splitee::tools
