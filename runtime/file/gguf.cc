#include "runtime/file/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>

namespace splitee::runtime {
namespace {

struct TypeFacts {
  std::string_view name;
  std::size_t bytes;
};

constexpr std::array<TypeFacts, 13> kTypes{{{"u8", 1},
                                            {"i8", 1},
                                            {"u16", 2},
                                            {"i16", 2},
                                            {"u32", 4},
                                            {"i32", 4},
                                            {"f32", 4},
                                            {"bool", 1},
                                            {"string", 0},
                                            {"array", 0},
                                            {"u64", 8},
                                            {"i64", 8},
                                            {"f64", 8}}};

const TypeFacts& facts(GgufType type) {
  return kTypes[static_cast<std::size_t>(type)];
}

std::string type_text(GgufType type, GgufType element) {
  if (type != GgufType::kArray) return std::string(gguf_type_name(type));
  return "array of " + std::string(gguf_type_name(element));
}

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

// A string at the front of `bytes`, which the parser has checked; `bytes` moves past it.
std::string_view take_string(std::span<const std::byte>& bytes) {
  const auto length = static_cast<std::size_t>(load<std::uint64_t>(bytes.data()));
  const auto text = bytes.subspan(sizeof(std::uint64_t), length);
  bytes = bytes.subspan(sizeof(std::uint64_t) + length);
  return {reinterpret_cast<const char*>(text.data()), text.size()};
}

// Position of `name` in the sorted `order`, or null.
template <class Item>
const Item* find_in(const std::vector<Item>& items, const std::vector<std::uint32_t>& order,
                    std::string_view Item::*field, std::string_view name) {
  const auto it = std::lower_bound(
      order.begin(), order.end(), name,
      [&](std::uint32_t index, std::string_view wanted) { return items[index].*field < wanted; });
  return it == order.end() || items[*it].*field != name ? nullptr : &items[*it];
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c >= ' ' && c <= '~') {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += "\\x";
      out += "0123456789abcdef"[byte >> 4];
      out += "0123456789abcdef"[byte & 15];
    }
  }
  return out + '"';
}

template <class T>
std::string number_text(const std::byte* from) {
  std::array<char, 32> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), load<T>(from)).ptr;
  return {text.data(), end};
}

std::string scalar_text(GgufType type, const std::byte* from) {
  switch (type) {
    case GgufType::kU8:
      return number_text<std::uint8_t>(from);
    case GgufType::kI8:
      return number_text<std::int8_t>(from);
    case GgufType::kU16:
      return number_text<std::uint16_t>(from);
    case GgufType::kI16:
      return number_text<std::int16_t>(from);
    case GgufType::kU32:
      return number_text<std::uint32_t>(from);
    case GgufType::kI32:
      return number_text<std::int32_t>(from);
    case GgufType::kF32:
      return number_text<float>(from);
    case GgufType::kBool:
      return *from == std::byte{0} ? "false" : "true";
    case GgufType::kU64:
      return number_text<std::uint64_t>(from);
    case GgufType::kI64:
      return number_text<std::int64_t>(from);
    case GgufType::kF64:
      return number_text<double>(from);
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return {};
}

}  // namespace

std::string_view gguf_type_name(GgufType type) {
  return facts(type).name;
}

std::size_t gguf_type_bytes(GgufType type) {
  return facts(type).bytes;
}

std::string_view tensor_type_name(TensorType type) {
  switch (type) {
    case TensorType::kF32:
      return "f32";
    case TensorType::kF16:
      return "f16";
    case TensorType::kI8:
      return "i8";
    case TensorType::kBf16:
      return "bf16";
  }
  return "unknown";
}

std::size_t tensor_type_bytes(TensorType type) {
  switch (type) {
    case TensorType::kF32:
      return 4;
    case TensorType::kF16:
    case TensorType::kBf16:
      return 2;
    case TensorType::kI8:
      return 1;
  }
  return 0;
}

std::string shape_text(std::span<const std::size_t> dims) {
  std::string text = "(";
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (i != 0) text += ", ";
    text += std::to_string(dims[i]);
  }
  return text + ")";
}

std::string value_text(const GgufEntry& entry, std::size_t max_elements) {
  std::span<const std::byte> rest = entry.raw;
  std::string text;
  const std::size_t shown = std::min(entry.count, max_elements);
  for (std::size_t i = 0; i < shown; ++i) {
    if (i != 0) text += ", ";
    if (entry.element == GgufType::kString) {
      text += quoted(take_string(rest));
    } else {
      text += scalar_text(entry.element, rest.data() + i * gguf_type_bytes(entry.element));
    }
  }
  if (entry.type != GgufType::kArray) return text;
  if (shown < entry.count) text += ", ...";
  return "[" + text + "] (" + std::to_string(entry.count) + ")";
}

Status Gguf::error(Code code, const std::string& message) const {
  return {code, name_ + ": " + message};
}

const GgufEntry* Gguf::find(std::string_view key) const {
  return find_in(entries_, entry_order_, &GgufEntry::key, key);
}

const GgufTensor* Gguf::find_tensor(std::string_view name) const {
  return find_in(tensors_, tensor_order_, &GgufTensor::name, name);
}

Result<const GgufEntry*> Gguf::require(std::string_view key, GgufType type,
                                       GgufType element) const {
  const GgufEntry* entry = find(key);
  if (entry == nullptr) {
    return error(Code::kUnsupported, "key " + std::string(key) + " is missing");
  }
  if (entry->type != type || entry->element != element) {
    return error(Code::kCorrupt, "byte " + std::to_string(entry->offset) + ": key " +
                                     std::string(key) + ": expected " + type_text(type, element) +
                                     ", found " + type_text(entry->type, entry->element));
  }
  return entry;
}

template <class T>
Result<T> Gguf::get_scalar(std::string_view key, GgufType type) const {
  const Result<const GgufEntry*> entry = require(key, type, type);
  if (!entry.ok()) return entry.status();
  return load<T>((*entry)->raw.data());
}

template <class T>
Result<std::vector<T>> Gguf::get_array(std::string_view key, GgufType element) const {
  const Result<const GgufEntry*> entry = require(key, GgufType::kArray, element);
  if (!entry.ok()) return entry.status();
  std::vector<T> values((*entry)->count);
  if (!values.empty()) {
    std::memcpy(values.data(), (*entry)->raw.data(), values.size() * sizeof(T));
  }
  return values;
}

Result<std::uint32_t> Gguf::get_u32(std::string_view key) const {
  return get_scalar<std::uint32_t>(key, GgufType::kU32);
}

Result<std::uint64_t> Gguf::get_u64(std::string_view key) const {
  return get_scalar<std::uint64_t>(key, GgufType::kU64);
}

Result<float> Gguf::get_f32(std::string_view key) const {
  return get_scalar<float>(key, GgufType::kF32);
}

Result<bool> Gguf::get_bool(std::string_view key) const {
  const Result<std::uint8_t> value = get_scalar<std::uint8_t>(key, GgufType::kBool);
  if (!value.ok()) return value.status();
  return *value != 0;
}

Result<std::string_view> Gguf::get_string(std::string_view key) const {
  const Result<const GgufEntry*> entry = require(key, GgufType::kString, GgufType::kString);
  if (!entry.ok()) return entry.status();
  std::span<const std::byte> bytes = (*entry)->raw;
  return take_string(bytes);
}

Result<std::vector<std::uint32_t>> Gguf::get_u32_array(std::string_view key) const {
  return get_array<std::uint32_t>(key, GgufType::kU32);
}

Result<std::vector<std::uint64_t>> Gguf::get_u64_array(std::string_view key) const {
  return get_array<std::uint64_t>(key, GgufType::kU64);
}

Result<std::vector<std::uint16_t>> Gguf::get_u16_array(std::string_view key) const {
  return get_array<std::uint16_t>(key, GgufType::kU16);
}

Result<std::vector<std::int32_t>> Gguf::get_i32_array(std::string_view key) const {
  return get_array<std::int32_t>(key, GgufType::kI32);
}

Result<std::vector<float>> Gguf::get_f32_array(std::string_view key) const {
  return get_array<float>(key, GgufType::kF32);
}

Result<std::vector<std::string_view>> Gguf::get_string_array(std::string_view key) const {
  const Result<const GgufEntry*> entry = require(key, GgufType::kArray, GgufType::kString);
  if (!entry.ok()) return entry.status();
  std::span<const std::byte> bytes = (*entry)->raw;
  std::vector<std::string_view> values((*entry)->count);
  for (std::string_view& value : values) value = take_string(bytes);
  return values;
}

}  // namespace splitee::runtime
