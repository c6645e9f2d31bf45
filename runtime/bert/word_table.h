// The table of word embeddings, in the type that the file stores: most of a small sample's model,
// of which a sample needs a few rows. Rows are read from the file when they are first used, with
// the block around them, and stay. Internal to BertNetwork.
// Thread rule: gather() may be called from many threads at once.
// Errors: those of ModelBytes.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "runtime/file/gguf.h"
#include "runtime/file/model_bytes.h"
#include "runtime/file/page_memory.h"
#include "runtime/weights/weight_loader.h"

namespace splitee::runtime {

class WordTable {
 public:
  // The tensor (rows, cols) of a checked file; `scales` (rows) where it is I8.
  static Result<WordTable> create(const TensorPlace& tensor, std::vector<float> scales);

  // rows (ids.size(), cols): the embeddings of these ids, all of them within the table.
  Status gather(const ModelBytes& bytes, std::span<const std::int32_t> ids,
                std::span<float> rows) const;
  // Reads what has not been read.
  Status read_all(const ModelBytes& bytes) const;

 private:
  struct Blocks {
    PageMemory memory;  // the file's blocks that hold the table
    std::size_t first = 0, count = 0;
    std::unique_ptr<std::atomic<bool>[]> there;
    std::mutex mutex;  // of reading
  };

  WordTable() = default;
  Status read_blocks(const ModelBytes& bytes, std::size_t begin, std::size_t end) const;

  TensorType type_ = TensorType::kF32;
  std::size_t cols_ = 0;
  std::size_t row_bytes_ = 0;
  std::size_t skipped_ = 0;  // bytes of the first block before the table
  std::size_t size_bytes_ = 0;
  std::vector<float> scales_;
  std::unique_ptr<Blocks> blocks_;
};

}  // namespace splitee::runtime
