// The table of word embeddings, in the type that the file stores: most of a small sample's model,
// of which a sample needs a few rows. A row is read from the file when it is first used, and stays;
// of the block around it, which the check of the file goes by, only the last one read does, so that
// the memory is that of the words met. Internal to BertNetwork.
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
  struct Rows {
    PageMemory memory;                                    // rows in the order of their first use
    std::unique_ptr<std::atomic<std::uint32_t>[]> place;  // of a row there, from 1 on; 0: not read
    std::mutex mutex;                                     // of all below
    std::uint32_t count = 0;
    std::vector<std::byte> blocks;  // of the file, the last ones read
    std::size_t first_block = 0;
  };

  WordTable() = default;
  // With the mutex held. `least`: blocks of the table that are read together.
  Status read_row(const ModelBytes& bytes, std::size_t row, std::size_t least) const;
  // Bytes [offset, offset + row_bytes_) of the file, out of its blocks.
  Status find_bytes(const ModelBytes& bytes, std::size_t offset, std::size_t least,
                    const std::byte*& found) const;

  TensorType type_ = TensorType::kF32;
  std::size_t offset_ = 0;  // in the file
  std::size_t count_ = 0, cols_ = 0, row_bytes_ = 0;
  std::vector<float> scales_;
  std::unique_ptr<Rows> rows_;
};

}  // namespace splitee::runtime
