#include "runtime/bert/word_table.h"

#include "runtime/file/dequantize.h"

namespace splitee::runtime {

constexpr std::size_t kBlock = ModelBytes::kBlock;

Result<WordTable> WordTable::create(const TensorPlace& tensor, std::vector<float> scales) {
  WordTable table;
  table.type_ = tensor.type;
  table.cols_ = tensor.cols;
  table.row_bytes_ = table.cols_ * tensor_type_bytes(tensor.type);
  table.skipped_ = tensor.offset % kBlock;
  table.size_bytes_ = tensor.size_bytes;
  table.scales_ = std::move(scales);
  table.blocks_ = std::make_unique<Blocks>();
  table.blocks_->first = tensor.offset / kBlock;
  table.blocks_->count = (table.skipped_ + tensor.size_bytes + kBlock - 1) / kBlock;
  table.blocks_->there = std::make_unique<std::atomic<bool>[]>(table.blocks_->count);
  Result<PageMemory> memory =
      PageMemory::allocate(table.blocks_->count * kBlock, PageMemory::Use::kSparse);
  if (!memory.ok()) return memory.status();
  table.blocks_->memory = std::move(*memory);
  return table;
}

Status WordTable::gather(const ModelBytes& bytes, std::span<const std::int32_t> ids,
                         std::span<float> rows) const {
  for (const std::int32_t id : ids) {
    const std::size_t row = static_cast<std::size_t>(id);
    const std::size_t begin = skipped_ + row * row_bytes_;
    if (Status s = read_blocks(bytes, begin, begin + row_bytes_); !s.ok()) return s;
    const auto to = rows.first(cols_);
    to_floats(type_, {blocks_->memory.data() + begin, row_bytes_}, 0, to);
    if (!scales_.empty()) {
      for (float& value : to) value *= scales_[row];
    }
    rows = rows.subspan(cols_);
  }
  return {};
}

Status WordTable::read_all(const ModelBytes& bytes) const {
  return read_blocks(bytes, skipped_, skipped_ + size_bytes_);
}

// The blocks that hold bytes [begin, end) of the memory.
Status WordTable::read_blocks(const ModelBytes& bytes, std::size_t begin, std::size_t end) const {
  for (std::size_t block = begin / kBlock; block * kBlock < end; ++block) {
    if (blocks_->there[block].load(std::memory_order_acquire)) continue;
    const std::lock_guard lock(blocks_->mutex);
    if (blocks_->there[block].load(std::memory_order_relaxed)) continue;
    std::byte* to = blocks_->memory.data() + block * kBlock;
    if (Status s = bytes.read_blocks(blocks_->first + block, 1, to); !s.ok()) return s;
    blocks_->there[block].store(true, std::memory_order_release);
  }
  return {};
}

}  // namespace splitee::runtime
