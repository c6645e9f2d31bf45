// Builds model files for tests, right ones and wrong ones, byte by byte. It shares no code with the
// reader; only the content hash, which has its own test, is the library's.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/base/bytes.h"

namespace splitee::runtime::testing {

// Numbers of the format (runtime/bert/model_format.h).
enum : std::uint32_t {
  kU8 = 0,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10
};
enum : std::uint32_t { kTensorF32 = 0, kTensorF16 = 1, kTensorI8 = 24, kTensorBf16 = 30 };

template <class T>
std::string raw(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

inline std::string raw_string(std::string_view text) {
  return raw<std::uint64_t>(text.size()) + std::string(text);
}

inline std::string raw_array(std::uint32_t element, std::uint64_t count, const std::string& bytes) {
  return raw(element) + raw(count) + bytes;
}

struct KeySpec {
  std::string key;
  std::uint32_t type = 0;
  std::string value;  // its bytes
};

struct TensorSpec {
  std::string name;
  std::vector<std::uint64_t> dims;  // outermost first
  std::uint32_t type = kTensorF32;
  std::string data;
  std::optional<std::uint32_t> rank;    // claimed, instead of the number of dims
  std::optional<std::uint64_t> offset;  // claimed, instead of the right one
};

struct FileSpec {
  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::optional<std::uint64_t> key_count, tensor_count;  // claimed, instead of the right ones
  std::vector<KeySpec> keys;
  std::vector<TensorSpec> tensors;
  std::uint32_t alignment = 32;  // used for padding; the key is the caller's
  std::string trailing;

  KeySpec& key(std::string_view name);
  TensorSpec& tensor(std::string_view name);
  void erase_key(std::string_view name);
  void erase_tensor(std::string_view name);
};

struct ModelShape {
  std::size_t layers = 2, hidden = 12, heads = 2, ffn = 20, positions = 9, classes = 3;
  std::size_t vocab = 11, types = 2;
  std::vector<std::uint32_t> exit_layers = {1, 2};
  std::uint32_t seed = 1;
  std::uint32_t type = kTensorF32;  // of the matrices; i8 ones get their scales
  bool mean_exits = false;          // bert.pooling_type: 1, else no such key
};

// A valid model with random weights.
FileSpec random_model(const ModelShape& shape);

struct NumbersShape {
  std::size_t features = 3;
  std::vector<std::uint32_t> widths = {8, 8, 6}, residual = {0, 1, 0};
  bool gelu = false;
  std::size_t classes = 3;
  std::vector<std::uint32_t> exit_layers = {1, 2, 3};
  std::uint32_t seed = 1;
  std::uint32_t type = kTensorF32;
};

// A valid network on rows of numbers with random weights.
FileSpec random_numbers(const NumbersShape& shape);

struct ConvShape {
  std::uint32_t height = 9, width = 12;
  std::uint32_t stem_kernel = 3, stem_stride = 1, stem_channels = 8, stem_pool = 0;
  bool inverted = false, projection = true;
  std::vector<std::uint32_t> channels = {8, 12}, strides = {1, 2};
  std::vector<std::uint32_t> hidden = {};  // inverted
  std::vector<std::uint32_t> exit_layers = {1, 2}, exit_channels = {0, 0};
  std::string activation = "relu";
  std::size_t classes = 3;
  std::uint32_t seed = 1;
  std::uint32_t type = kTensorF32;
};

// A valid network on images with random weights.
FileSpec random_conv(const ConvShape& shape);

std::string float_bytes(std::span<const float> values);

// The file's bytes. Where there is a key splitee.content_hash with 8 bytes, they get the right
// hash; where there is a key splitee.block_sums, so do its entries.
std::string build(const FileSpec& spec);
void fix_content_hash(std::string& file);
// Adds the key splitee.block_sums, which build() fills in; `more` entries beyond those needed at
// most.
void add_block_sums(FileSpec& spec, std::size_t more = 0);
// Of a file whose tensor data begins at `data_start`; where the key has room for them.
void fix_block_sums(std::string& file, std::size_t data_start);

using splitee::testing::as_bytes;

}  // namespace splitee::runtime::testing
