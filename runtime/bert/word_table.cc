#include "runtime/bert/word_table.h"

#include <algorithm>
#include <new>

#include "runtime/file/dequantize.h"

namespace splitee::runtime {

constexpr std::size_t kBlock = ModelBytes::kBlock;
// Read at a time, at least: where all rows are wanted, few blocks that two reads share.
constexpr std::size_t kBlocksForOne = 1, kBlocksForAll = 16;

Result<WordTable> WordTable::create(const TensorPlace& tensor, std::vector<float> scales) {
  WordTable table;
  table.type_ = tensor.type;
  table.offset_ = tensor.offset;
  table.count_ = tensor.rows;
  table.cols_ = tensor.cols;
  table.row_bytes_ = table.cols_ * tensor_type_bytes(tensor.type);
  table.scales_ = std::move(scales);
  table.rows_ = std::make_unique<Rows>();
  table.rows_->place = std::make_unique<std::atomic<std::uint32_t>[]>(table.count_);
  Result<PageMemory> memory =
      PageMemory::allocate(table.count_ * table.row_bytes_, PageMemory::Use::kSparse);
  if (!memory.ok()) return memory.status();
  table.rows_->memory = std::move(*memory);
  return table;
}

Status WordTable::gather(const ModelBytes& bytes, std::span<const std::int32_t> ids,
                         std::span<float> rows) const {
  for (const std::int32_t id : ids) {
    const auto row = static_cast<std::size_t>(id);
    std::uint32_t place = rows_->place[row].load(std::memory_order_acquire);
    if (place == 0) {
      const std::lock_guard lock(rows_->mutex);
      if (Status s = read_row(bytes, row, kBlocksForOne); !s.ok()) return s;
      place = rows_->place[row].load(std::memory_order_acquire);
    }
    const auto to = rows.first(cols_);
    to_floats(type_, {rows_->memory.data() + (place - 1) * row_bytes_, row_bytes_}, 0, to);
    if (!scales_.empty()) {
      for (float& value : to) value *= scales_[row];
    }
    rows = rows.subspan(cols_);
  }
  return {};
}

Status WordTable::read_all(const ModelBytes& bytes) const {
  const std::lock_guard lock(rows_->mutex);
  for (std::size_t row = 0; row < count_; ++row) {
    if (Status s = read_row(bytes, row, kBlocksForAll); !s.ok()) return s;
  }
  rows_->blocks = {};
  return {};
}

Status WordTable::read_row(const ModelBytes& bytes, std::size_t row, std::size_t least) const {
  if (rows_->place[row].load(std::memory_order_relaxed) != 0) return {};
  const std::byte* found = nullptr;
  if (Status s = find_bytes(bytes, offset_ + row * row_bytes_, least, found); !s.ok()) return s;
  std::copy_n(found, row_bytes_, rows_->memory.data() + rows_->count * row_bytes_);
  rows_->place[row].store(++rows_->count, std::memory_order_release);
  return {};
}

Status WordTable::find_bytes(const ModelBytes& bytes, std::size_t offset, std::size_t least,
                             const std::byte*& found) const {
  const auto block_end = [](std::size_t byte) { return (byte + kBlock - 1) / kBlock; };
  const std::size_t first = offset / kBlock, needed = block_end(offset + row_bytes_);
  std::vector<std::byte>& blocks = rows_->blocks;
  if (first < rows_->first_block || needed > rows_->first_block + blocks.size() / kBlock) {
    const std::size_t last = block_end(offset_ + count_ * row_bytes_);
    const std::size_t end = std::max(needed, std::min(first + least, last));
    try {
      blocks.resize((end - first) * kBlock);
    } catch (const std::bad_alloc&) {
      return {Code::kIo, bytes.name() + ": not enough memory to read its words"};
    }
    rows_->first_block = first;
    if (Status s = bytes.read_blocks(first, end - first, blocks.data()); !s.ok()) {
      blocks.clear();
      return s;
    }
  }
  found = blocks.data() + (offset - rows_->first_block * kBlock);
  return {};
}

}  // namespace splitee::runtime
