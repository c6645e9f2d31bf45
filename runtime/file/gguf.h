// Reader of GGUF v3 containers (bytes: runtime/file/model_keys.h). It checks the container only;
// what the keys and tensors mean is the caller's business.
//
// Every count, length, offset, sum and product of the file is checked before it is used, nothing
// is allocated from an unchecked length, and memory grows with what is there, never with what is
// claimed. Every string of the file that reaches a message is printable ASCII.
// Thread rule: immutable.
// Ownership: views into the bytes given to parse(), which must outlive the Gguf and its views.
// The tensor data is never looked at.
// Errors: kCorrupt for broken bytes, kUnsupported for what is well formed but unknown here; the
// message starts with the name given to parse() and names the byte offset or the key.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace splitee::runtime {

enum class GgufType : std::uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};
std::string_view gguf_type_name(GgufType type);  // "u8", ..., "string", "array"
std::size_t gguf_type_bytes(GgufType type);      // of one value; 0 for string and array

enum class TensorType : std::uint32_t { kF32 = 0, kF16 = 1, kI8 = 24, kBf16 = 30 };
std::string_view tensor_type_name(TensorType type);  // "f32", "f16", "i8", "bf16"
std::size_t tensor_type_bytes(TensorType type);      // per element; 0 if unknown

// A key-value pair. An array's elements have type `element` (never kArray); otherwise count is 1.
struct GgufEntry {
  std::string_view key;
  GgufType type = GgufType::kU8;
  GgufType element = GgufType::kU8;
  std::size_t count = 1;
  std::size_t offset = 0;          // of the value's (or the first element's) first byte in the file
  std::span<const std::byte> raw;  // the value's or the elements' bytes
};

struct GgufTensor {
  std::string_view name;
  TensorType type = TensorType::kF32;
  std::size_t rank = 0;               // 1 .. 4
  std::array<std::size_t, 4> dims{};  // `rank` sizes >= 1, outermost first: (rows, cols)
  std::size_t offset = 0;             // of the first element's first byte in the file
  std::size_t size_bytes = 0;         // row major; exactly the elements
};
std::string shape_text(std::span<const std::size_t> dims);  // "(2, 3)"

class Gguf {
 public:
  // A whole file; `name` is its, for messages.
  static Result<Gguf> parse(std::string name, std::span<const std::byte> bytes);
  // The same from the first bytes of a file of `file_size`. Where they end before the tensor data
  // begins and nothing before that is wrong, it fails and sets `needed` to the bytes that are
  // needed to come further; otherwise `needed` is 0.
  static Result<Gguf> parse(std::string name, std::span<const std::byte> first_bytes,
                            std::size_t file_size, std::size_t& needed);

  const std::vector<GgufEntry>& entries() const { return entries_; }   // in file order
  const std::vector<GgufTensor>& tensors() const { return tensors_; }  // in file order
  // Null where there is none.
  const GgufEntry* find(std::string_view key) const;
  const GgufTensor* find_tensor(std::string_view name) const;

  // Values of exactly the named type. A missing key is kUnsupported.
  Result<std::uint32_t> get_u32(std::string_view key) const;
  Result<std::uint64_t> get_u64(std::string_view key) const;
  Result<float> get_f32(std::string_view key) const;
  Result<bool> get_bool(std::string_view key) const;
  Result<std::string_view> get_string(std::string_view key) const;
  Result<std::vector<std::uint16_t>> get_u16_array(std::string_view key) const;
  Result<std::vector<std::uint32_t>> get_u32_array(std::string_view key) const;
  Result<std::vector<std::uint64_t>> get_u64_array(std::string_view key) const;
  Result<std::vector<std::int32_t>> get_i32_array(std::string_view key) const;
  Result<std::vector<float>> get_f32_array(std::string_view key) const;
  Result<std::vector<std::string_view>> get_string_array(std::string_view key) const;

  const std::string& name() const { return name_; }
  // An error about this file: "NAME: message".
  Status error(Code code, const std::string& message) const;

 private:
  friend class GgufParser;
  Gguf() = default;
  Result<const GgufEntry*> require(std::string_view key, GgufType type, GgufType element) const;
  template <class T>
  Result<T> get_scalar(std::string_view key, GgufType type) const;
  template <class T>
  Result<std::vector<T>> get_array(std::string_view key, GgufType element) const;

  std::string name_;
  std::span<const std::byte> bytes_;
  std::size_t file_size_ = 0;
  std::vector<GgufEntry> entries_;
  std::vector<GgufTensor> tensors_;
  // Indices in the order of the keys and names, for look-up and to find duplicates.
  std::vector<std::uint32_t> entry_order_, tensor_order_;
};

// The value for people: numbers, true/false, strings quoted (anything but printable ASCII as
// \xHH), of arrays the first `max_elements` and the count.
std::string value_text(const GgufEntry& entry, std::size_t max_elements);

}  // namespace splitee::runtime
