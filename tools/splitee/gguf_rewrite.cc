#include "tools/splitee/gguf_rewrite.h"

#include <algorithm>
#include <cstring>

#include "base/hash.h"
#include "runtime/file/model_keys.h"

namespace splitee::tools {
namespace {

using runtime::Gguf;
using runtime::GgufEntry;
using runtime::GgufType;

constexpr std::size_t kCountsOffset = 8;  // of tensors and key-values, behind magic and version
constexpr std::size_t kHeaderBytes = 24;

template <class Number>
void append(std::string& out, Number value) {
  char bytes[sizeof(Number)];
  std::memcpy(bytes, &value, sizeof(Number));
  out.append(bytes, sizeof(Number));
}

void append(std::string& out, std::span<const std::byte> bytes) {
  out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void append_head(std::string& out, std::string_view key, GgufType type, GgufType element,
                 std::size_t count) {
  append(out, std::uint64_t{key.size()});
  out += key;
  append(out, static_cast<std::uint32_t>(type));
  if (type != GgufType::kArray) return;
  append(out, static_cast<std::uint32_t>(element));
  append(out, std::uint64_t{count});
}

void append_key(std::string& out, const NewKey& key) {
  append_head(out, key.key, key.is_array ? GgufType::kArray : key.type, key.type, key.count);
  out += key.bytes;
}

template <class Number>
NewKey array_of(std::string_view key, GgufType type, std::span<const Number> values) {
  NewKey result{key, type, true, values.size(), {}};
  append(result.bytes, std::as_bytes(values));
  return result;
}

std::size_t tensor_info_bytes(const Gguf& file) {
  std::size_t bytes = 0;
  for (const runtime::GgufTensor& tensor : file.tensors()) {
    bytes += 8 + tensor.name.size() + 4 + 8 * tensor.rank + 4 + 8;
  }
  return bytes;
}

std::span<const std::byte> tensor_data(const Gguf& file, std::span<const std::byte> bytes) {
  return file.tensors().empty() ? std::span<const std::byte>()
                                : bytes.subspan(file.tensors().front().offset);
}

// As many zeros as the file has blocks that begin in the tensor data, or one more.
NewKey room_for_sums(std::size_t data_bytes) {
  const std::vector<std::uint64_t> zeros(runtime::first_summed_block(data_bytes));
  return array_of(runtime::kKeyBlockSums, GgufType::kU64, std::span(zeros));
}

// Fills that room, the 8-byte words from `offset` on.
void fill_in_sums(std::string& file, std::size_t data_start, std::size_t offset) {
  constexpr std::size_t kBlock = runtime::kSummedBlock;
  for (std::size_t begin = runtime::first_summed_block(data_start) * kBlock; begin < file.size();
       begin += kBlock, offset += sizeof(std::uint64_t)) {
    const auto block = std::as_bytes(std::span(file)).subspan(begin);
    const std::uint64_t sum = content_hash_terms(block.first(std::min(kBlock, block.size())),
                                                 begin / sizeof(std::uint64_t));
    std::memcpy(file.data() + offset, &sum, sizeof(sum));
  }
}

std::size_t alignment(const Gguf& file) {
  const Result<std::uint32_t> value = file.get_u32(runtime::kKeyAlignment);
  return value.ok() ? *value : 32;
}

}  // namespace

NewKey float_key(std::string_view key, float value) {
  NewKey result{key, GgufType::kF32, false, 1, {}};
  append(result.bytes, value);
  return result;
}

NewKey u32_key(std::string_view key, std::uint32_t value) {
  NewKey result{key, GgufType::kU32, false, 1, {}};
  append(result.bytes, value);
  return result;
}

NewKey array_key(std::string_view key, std::span<const float> values) {
  return array_of(key, GgufType::kF32, values);
}

NewKey array_key(std::string_view key, std::span<const std::uint16_t> values) {
  return array_of(key, GgufType::kU16, values);
}

NewKey u64_key(std::string_view key, std::uint64_t value) {
  NewKey result{key, GgufType::kU64, false, 1, {}};
  append(result.bytes, value);
  return result;
}

std::string with_keys(const Gguf& file, std::span<const std::byte> bytes,
                      std::span<const NewKey> keys, std::string_view dropped) {
  std::string out;
  append(out, bytes.first(kHeaderBytes));
  std::uint64_t entries = 0;
  std::size_t hash_offset = 0;
  for (const GgufEntry& entry : file.entries()) {
    if (std::ranges::find(keys, entry.key, &NewKey::key) != keys.end()) continue;
    if (entry.key == dropped || entry.key == runtime::kKeyBlockSums) continue;
    append_head(out, entry.key, entry.type, entry.element, entry.count);
    if (entry.key == runtime::kKeyContentHash) hash_offset = out.size();
    append(out, entry.raw);
    ++entries;
  }
  for (const NewKey& key : keys) append_key(out, key);
  const std::span<const std::byte> data = tensor_data(file, bytes);
  const NewKey sums = room_for_sums(data.size());
  append_key(out, sums);
  const std::size_t sums_offset = out.size() - sums.bytes.size();
  entries += keys.size() + 1;
  std::memcpy(out.data() + kCountsOffset + 8, &entries, sizeof(entries));

  // The tensor infos hold offsets from the start of the data: they stay true.
  const GgufEntry& last = file.entries().back();
  append(out, bytes.subspan(last.offset + last.raw.size(), tensor_info_bytes(file)));
  if (!data.empty()) {
    out.resize((out.size() + alignment(file) - 1) / alignment(file) * alignment(file), '\0');
    const std::size_t data_start = out.size();
    append(out, data);
    fill_in_sums(out, data_start, sums_offset);
  }
  const std::uint64_t hash = content_hash_zeroing(std::as_bytes(std::span(out)), hash_offset);
  std::memcpy(out.data() + hash_offset, &hash, sizeof(hash));
  return out;
}

}  // namespace splitee::tools
