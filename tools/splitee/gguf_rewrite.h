// A model file with some keys replaced, everything else kept byte for byte.
// Thread rule: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "runtime/file/gguf.h"

namespace splitee::tools {

// A key to write: one value of `type`, or an array of them.
struct NewKey {
  std::string_view key;
  runtime::GgufType type = runtime::GgufType::kF32;
  bool is_array = true;
  std::size_t count = 1;
  std::string bytes;  // of the value or the elements
};

NewKey float_key(std::string_view key, float value);
NewKey u32_key(std::string_view key, std::uint32_t value);
NewKey array_key(std::string_view key, std::span<const float> values);
NewKey array_key(std::string_view key, std::span<const std::uint16_t> values);
NewKey u64_key(std::string_view key, std::uint64_t value);

// `bytes`, which `file` was parsed from, with `keys` in place of those of the same names, or added
// after the others, without the key `dropped`, and with a new splitee.content_hash and
// splitee.block_sums (runtime/file/model_keys.h). Tensors, their order and all other keys stay as
// they are.
// Precondition: the file has a content hash.
std::string with_keys(const runtime::Gguf& file, std::span<const std::byte> bytes,
                      std::span<const NewKey> keys, std::string_view dropped = {});

}  // namespace splitee::tools
