// The parsing half of Gguf: header, key-values, tensor infos, then the places of the tensors.
#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <type_traits>

#include "base/checked_size.h"
#include "runtime/file/gguf.h"
#include "runtime/file/model_keys.h"

namespace splitee::runtime {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are read as they lie in memory");

constexpr std::uint32_t kVersion = 3;
constexpr std::size_t kMaxCount = 100000;  // of keys, of tensors
constexpr std::size_t kMaxNameBytes = 64;
constexpr std::size_t kMaxKeyBytes = 256;
constexpr std::size_t kStringBytes = 8;                    // an empty string
constexpr std::size_t kEntryBytes = kStringBytes + 4 + 1;  // the shortest key-value
constexpr std::size_t kTensorInfoBytes = kStringBytes + 4 + 8 + 4 + 8;
constexpr std::uint32_t kMinAlignment = 32, kMaxAlignment = 65536;

bool printable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

// Least bytes that one value takes in the file.
std::size_t least_bytes(GgufType type) {
  return type == GgufType::kString ? kStringBytes : gguf_type_bytes(type);
}

// The indices of `items` in the order of their names.
template <class Item, class Name>
std::vector<std::uint32_t> order_by(const std::vector<Item>& items, Name name) {
  std::vector<std::uint32_t> order(items.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return items[a].*name < items[b].*name; });
  return order;
}

// The first name that occurs twice, or null.
template <class Item, class Name>
const std::string_view* find_duplicate(const std::vector<Item>& items,
                                       const std::vector<std::uint32_t>& order, Name name) {
  const auto same = [&](std::uint32_t a, std::uint32_t b) {
    return items[a].*name == items[b].*name;
  };
  const auto it = std::adjacent_find(order.begin(), order.end(), same);
  return it == order.end() ? nullptr : &(items[*it].*name);
}

}  // namespace

class GgufParser {
 public:
  explicit GgufParser(Gguf& file) : file_(file), bytes_(file.bytes_), file_size_(file.file_size_) {}
  Status parse();
  // See Gguf::parse().
  std::size_t needed() const { return needed_; }

 private:
  Status parse_header();
  Status parse_entries();
  Status parse_entry(GgufEntry& entry);
  Status parse_values(const GgufEntry& entry);
  Status parse_tensor_infos();
  Status parse_tensor_info(GgufTensor& tensor);
  Status parse_dims(GgufTensor& tensor);
  Status parse_tensor_type(GgufTensor& tensor);
  Status read_alignment();
  Status place_tensors();
  Status place_tensor(std::size_t index, std::size_t data_start, CheckedSize& end);

  // Each advances past what it reads; the error names the field and its offset.
  template <class T>
  Status read(const char* field, T& value) {
    static_assert(std::is_arithmetic_v<T>);
    if (remaining() < sizeof(T)) return cut_off(field);
    if (Status s = need(sizeof(T)); !s.ok()) return s;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return {};
  }
  Status read_string(const char* field, std::string_view& value);
  Status read_name(const char* field, std::size_t max_bytes, std::string_view& value);
  Status read_count(const char* field, std::size_t least, std::size_t limit, std::size_t& count);
  Status read_type(const char* field, GgufType& type);

  std::size_t remaining() const { return file_size_ - position_; }
  // The next `size` bytes of the file, which has them, have to be among those given.
  Status need(std::size_t size) {
    if (size <= bytes_.size() - position_) return {};
    needed_ = position_ + size;
    return error(Code::kIo, position_, "not all of the header was read");
  }
  Status error(Code code, std::size_t offset, const std::string& message) const {
    return file_.error(code, "byte " + std::to_string(offset) + ": " + message);
  }
  Status cut_off(const char* field) const {
    return error(Code::kCorrupt, position_, std::string("the file ends within ") + field);
  }

  Gguf& file_;
  std::span<const std::byte> bytes_;
  std::size_t file_size_;
  std::size_t needed_ = 0;
  std::size_t position_ = 0;
  std::size_t entry_count_ = 0, tensor_count_ = 0;
  std::size_t alignment_ = kMinAlignment;
  std::vector<std::uint64_t> data_offsets_;  // per tensor, as the file gives them
};

Status GgufParser::parse() {
  if (Status s = parse_header(); !s.ok()) return s;
  if (Status s = parse_entries(); !s.ok()) return s;
  if (Status s = read_alignment(); !s.ok()) return s;
  if (Status s = parse_tensor_infos(); !s.ok()) return s;
  return place_tensors();
}

Status GgufParser::parse_header() {
  if (file_size_ == 0) return file_.error(Code::kCorrupt, "the file is empty");
  if (file_size_ >= 4) {
    if (Status s = need(4); !s.ok()) return s;
  }
  if (file_size_ < 4 || std::memcmp(bytes_.data(), "GGUF", 4) != 0) {
    return file_.error(Code::kCorrupt, "not a GGUF file (it does not start with \"GGUF\")");
  }
  position_ = 4;
  std::uint32_t version = 0;
  if (Status s = read("the version", version); !s.ok()) return s;
  if (version != kVersion) {
    return error(Code::kUnsupported, 4,
                 "GGUF version " + std::to_string(version) + "; only 3 (little-endian) is known");
  }
  if (Status s = read_count("tensors", kTensorInfoBytes, kMaxCount, tensor_count_); !s.ok()) {
    return s;
  }
  return read_count("key-values", kEntryBytes, kMaxCount, entry_count_);
}

Status GgufParser::parse_entries() {
  file_.entries_.resize(entry_count_);
  for (GgufEntry& entry : file_.entries_) {
    if (Status s = parse_entry(entry); !s.ok()) return s;
  }
  file_.entry_order_ = order_by(file_.entries_, &GgufEntry::key);
  if (const auto* key = find_duplicate(file_.entries_, file_.entry_order_, &GgufEntry::key)) {
    return file_.error(Code::kCorrupt, "key " + std::string(*key) + " occurs twice");
  }
  return {};
}

Status GgufParser::parse_entry(GgufEntry& entry) {
  if (Status s = read_name("key", kMaxKeyBytes, entry.key); !s.ok()) return s;
  if (Status s = read_type("value type", entry.type); !s.ok()) return s;
  entry.element = entry.type;
  if (entry.type == GgufType::kArray) {
    const std::size_t at = position_;
    if (Status s = read_type("array element type", entry.element); !s.ok()) return s;
    if (entry.element == GgufType::kArray) {
      return error(Code::kUnsupported, at,
                   "key " + std::string(entry.key) + ": an array of arrays is not supported");
    }
    const std::size_t least = least_bytes(entry.element);
    if (Status s = read_count("array elements", least, file_size_, entry.count); !s.ok()) {
      return s;
    }
  }
  entry.offset = position_;
  if (Status s = parse_values(entry); !s.ok()) return s;
  entry.raw = bytes_.subspan(entry.offset, position_ - entry.offset);
  return {};
}

// Checks and steps over the value, or the elements.
Status GgufParser::parse_values(const GgufEntry& entry) {
  if (entry.element == GgufType::kString) {
    std::string_view text;
    for (std::size_t i = 0; i < entry.count; ++i) {
      if (Status s = read_string("string", text); !s.ok()) return s;
    }
    return {};
  }
  const CheckedSize size = CheckedSize(entry.count) * gguf_type_bytes(entry.element);
  if (!size.at_most(remaining())) return cut_off("a value");
  if (Status s = need(size.value()); !s.ok()) return s;
  if (entry.element == GgufType::kBool) {
    for (std::size_t i = position_; i < position_ + entry.count; ++i) {
      if (bytes_[i] > std::byte{1}) {
        return error(Code::kCorrupt, i,
                     "key " + std::string(entry.key) + ": a bool that is neither 0 nor 1");
      }
    }
  }
  position_ += size.value();
  return {};
}

Status GgufParser::read_alignment() {
  if (file_.find(kKeyAlignment) == nullptr) return {};
  const Result<std::uint32_t> alignment = file_.get_u32(kKeyAlignment);
  if (!alignment.ok()) return alignment.status();
  if (!std::has_single_bit(*alignment) || *alignment < kMinAlignment ||
      *alignment > kMaxAlignment) {
    return file_.error(Code::kCorrupt, "key " + std::string(kKeyAlignment) + " is " +
                                           std::to_string(*alignment) +
                                           "; it must be a power of two from 32 to 65536");
  }
  alignment_ = *alignment;
  return {};
}

Status GgufParser::parse_tensor_infos() {
  file_.tensors_.resize(tensor_count_);
  data_offsets_.reserve(tensor_count_);
  for (GgufTensor& tensor : file_.tensors_) {
    if (Status s = parse_tensor_info(tensor); !s.ok()) return s;
  }
  file_.tensor_order_ = order_by(file_.tensors_, &GgufTensor::name);
  if (const auto* name = find_duplicate(file_.tensors_, file_.tensor_order_, &GgufTensor::name)) {
    return file_.error(Code::kCorrupt, "tensor " + std::string(*name) + " occurs twice");
  }
  return {};
}

Status GgufParser::parse_tensor_info(GgufTensor& tensor) {
  if (Status s = read_name("tensor name", kMaxNameBytes, tensor.name); !s.ok()) return s;
  if (Status s = parse_dims(tensor); !s.ok()) return s;
  if (Status s = parse_tensor_type(tensor); !s.ok()) return s;
  std::uint64_t offset = 0;
  if (Status s = read("a tensor offset", offset); !s.ok()) return s;
  data_offsets_.push_back(offset);
  return {};
}

Status GgufParser::parse_dims(GgufTensor& tensor) {
  const std::size_t at = position_;
  const std::string subject = "tensor " + std::string(tensor.name);
  std::uint32_t rank = 0;
  if (Status s = read("a tensor's dimensions", rank); !s.ok()) return s;
  if (rank < 1 || rank > tensor.dims.size()) {
    return error(Code::kCorrupt, at,
                 subject + " has " + std::to_string(rank) + " dimensions, not 1 to 4");
  }
  tensor.rank = rank;
  for (std::size_t i = rank; i-- > 0;) {
    std::uint64_t dim = 0;
    if (Status s = read("a tensor's dimensions", dim); !s.ok()) return s;
    // Every element takes at least one byte.
    if (dim == 0 || dim > file_size_) {
      return error(Code::kCorrupt, position_ - sizeof(dim),
                   subject + ": dimension " + std::to_string(dim) +
                       " is not within 1 and the size of the file");
    }
    tensor.dims[i] = static_cast<std::size_t>(dim);
  }
  return {};
}

Status GgufParser::parse_tensor_type(GgufTensor& tensor) {
  const std::size_t at = position_;
  std::uint32_t type = 0;
  if (Status s = read("a tensor type", type); !s.ok()) return s;
  tensor.type = static_cast<TensorType>(type);
  if (tensor_type_bytes(tensor.type) != 0) return {};
  return error(Code::kUnsupported, at,
               "tensor " + std::string(tensor.name) + " has type " + std::to_string(type) +
                   "; known are 0 (f32), 1 (f16), 24 (i8) and 30 (bf16)");
}

Status GgufParser::place_tensors() {
  const CheckedSize start = CheckedSize(position_).round_up(alignment_);
  if (tensor_count_ != 0 && !start.at_most(file_size_)) {
    return error(Code::kCorrupt, position_, "the file ends before the tensor data");
  }
  CheckedSize end = position_;
  for (std::size_t i = 0; i < tensor_count_; ++i) {
    if (Status s = place_tensor(i, start.value(), end); !s.ok()) return s;
  }
  if (file_size_ != end.value() && !(end.round_up(alignment_).at_most(file_size_) &&
                                     file_size_ == end.round_up(alignment_).value())) {
    return error(Code::kCorrupt, end.value(),
                 "the file goes on after its last tensor, to byte " + std::to_string(file_size_));
  }
  return {};
}

// `end` is where the tensor before ended, and is moved to where this one ends.
Status GgufParser::place_tensor(std::size_t index, std::size_t data_start, CheckedSize& end) {
  GgufTensor& tensor = file_.tensors_[index];
  const std::string subject = "tensor " + std::string(tensor.name);
  const CheckedSize expected = index == 0 ? CheckedSize(data_start) : end.round_up(alignment_);
  const CheckedSize begin = CheckedSize(data_start) + data_offsets_[index];
  if (!expected.ok() || !begin.ok() || begin.value() != expected.value()) {
    return file_.error(Code::kCorrupt, subject + ": data offset " +
                                           std::to_string(data_offsets_[index]) +
                                           " is not where the tensor before it ends");
  }
  CheckedSize size = tensor_type_bytes(tensor.type);
  for (std::size_t i = 0; i < tensor.rank; ++i) size = size * tensor.dims[i];
  end = begin + size;
  if (!end.at_most(file_size_)) {
    return file_.error(Code::kCorrupt,
                       subject + " " + shape_text(std::span(tensor.dims).first(tensor.rank)) +
                           " at data offset " + std::to_string(data_offsets_[index]) +
                           " goes beyond the end of the file, byte " + std::to_string(file_size_));
  }
  tensor.offset = begin.value();
  tensor.size_bytes = size.value();
  return {};
}

Status GgufParser::read_string(const char* field, std::string_view& value) {
  const std::size_t at = position_;
  std::uint64_t length = 0;
  if (Status s = read(field, length); !s.ok()) return s;
  if (length > remaining()) {
    return error(Code::kCorrupt, at,
                 std::string(field) + " length " + std::to_string(length) + " is more than the " +
                     std::to_string(remaining()) + " bytes left in the file");
  }
  if (Status s = need(static_cast<std::size_t>(length)); !s.ok()) return s;
  value = {reinterpret_cast<const char*>(bytes_.data() + position_),
           static_cast<std::size_t>(length)};
  position_ += value.size();
  return {};
}

// A string that may appear in messages.
Status GgufParser::read_name(const char* field, std::size_t max_bytes, std::string_view& value) {
  const std::size_t at = position_;
  if (Status s = read_string(field, value); !s.ok()) return s;
  if (value.empty() || value.size() > max_bytes) {
    return error(Code::kCorrupt, at,
                 std::string(field) + " has " + std::to_string(value.size()) + " bytes, not 1 to " +
                     std::to_string(max_bytes));
  }
  if (!printable(value)) {
    return error(Code::kCorrupt, at, std::string(field) + " is not printable ASCII");
  }
  return {};
}

// A count of things of which each takes at least `least` of the bytes that follow.
Status GgufParser::read_count(const char* field, std::size_t least, std::size_t limit,
                              std::size_t& count) {
  const std::size_t at = position_;
  std::uint64_t claimed = 0;
  if (Status s = read(field, claimed); !s.ok()) return s;
  if (claimed > limit || !(CheckedSize(claimed) * least).at_most(remaining())) {
    return error(Code::kCorrupt, at,
                 "a count of " + std::to_string(claimed) + " " + field + " does not fit the " +
                     std::to_string(remaining()) + " bytes left in the file, or is over " +
                     std::to_string(limit));
  }
  count = static_cast<std::size_t>(claimed);
  return {};
}

Status GgufParser::read_type(const char* field, GgufType& type) {
  const std::size_t at = position_;
  std::uint32_t value = 0;
  if (Status s = read(field, value); !s.ok()) return s;
  if (value > static_cast<std::uint32_t>(GgufType::kF64)) {
    return error(Code::kCorrupt, at,
                 std::string(field) + " " + std::to_string(value) + " is not known");
  }
  type = static_cast<GgufType>(value);
  return {};
}

Result<Gguf> Gguf::parse(std::string name, std::span<const std::byte> first_bytes,
                         std::size_t file_size, std::size_t& needed) {
  SPLITEE_CHECK(first_bytes.size() <= file_size);
  Gguf file;
  file.name_ = std::move(name);
  file.bytes_ = first_bytes;
  file.file_size_ = file_size;
  GgufParser parser(file);
  const Status status = parser.parse();
  needed = parser.needed();
  if (!status.ok()) return status;
  return file;
}

Result<Gguf> Gguf::parse(std::string name, std::span<const std::byte> bytes) {
  std::size_t needed = 0;
  return parse(std::move(name), bytes, bytes.size(), needed);
}

}  // namespace splitee::runtime
