// The bytes of a model file, read piece by piece. Internal to the loader.
//
// The file is read with pread() into private memory, never mapped: a file that is cut off or
// overwritten while it is in use gives an error, not a signal. A sum is remembered of every block
// that is read, and every later reading of it held against that; check() reads the blocks that have
// not been, so that the content hash that it gives is that of every byte ever used, before and
// after. Blocks whose sums the file itself claims are held against the claim instead, whenever they
// are read, and check() need not read them: their sums are terms of the content hash.
// Thread rule: read() and read_blocks() may be called from many threads; check() from one, with no
// other call at the time.
// Errors: kIo and kCorrupt, naming the file.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "runtime/file/gguf.h"

namespace splitee::runtime {

class ModelBytes {
 public:
  static constexpr std::size_t kBlock = 65536;

  static Result<ModelBytes> open(const std::string& path);
  // Bytes in memory, which must live as long as this is read; `name` is for messages.
  static ModelBytes from_memory(std::string name, std::span<const std::byte> bytes);

  const std::string& name() const { return name_; }
  std::size_t size() const { return size_; }

  // Bytes [offset, offset + out.size()) as they are now. Precondition: within size().
  Status read(std::size_t offset, std::span<std::byte> out) const;

  // Before the calls below: `visit` gets every block with its offset as it is first read, from
  // several threads at once, until the end of check(); blocks with claimed sums whenever they are
  // read, for good. Where it fails, so does reading.
  using Visit = std::function<Status(std::size_t offset, std::span<const std::byte> block)>;
  void watch(Visit visit);
  // After watch(): the sums that the blocks from `first` to the last have to have.
  void claim(std::size_t first, std::vector<std::uint64_t> sums);

  // Whole blocks [first, first + count) to `out`, the last of the file maybe shorter. Before
  // check() they are what the file holds now, for better or worse.
  Status read_blocks(std::size_t first, std::size_t count, std::byte* out) const;

  // The content hash of all bytes, with the 8 from `zeroed` on taken as zero (base/hash.h). Blocks
  // with claimed sums are read for it where `whole`, else only their claims count.
  Result<std::uint64_t> check(std::optional<std::size_t> zeroed, bool whole);

  // After check(): whether the file's first bytes, got by read(), are those that it saw.
  Status check_same(std::span<const std::byte> first_bytes) const;

 private:
  ModelBytes() = default;
  std::size_t blocks() const { return (size_ + kBlock - 1) / kBlock; }
  bool is_claimed(std::size_t block) const { return block >= first_claimed_; }
  std::size_t block_end(std::size_t block) const { return std::min((block + 1) * kBlock, size_); }
  // Of all blocks not seen so far among [first, last), which fit `buffer`.
  Status see_blocks(std::size_t first, std::size_t last, std::span<std::byte> buffer) const;
  Status see_block(std::size_t block, std::span<const std::byte> bytes) const;

  std::string name_;
  std::size_t size_ = 0;
  std::unique_ptr<InputFile> file_;  // null: memory_
  std::span<const std::byte> memory_;
  Visit visit_;
  std::size_t first_claimed_ = SIZE_MAX;
  std::vector<std::uint64_t> claimed_;  // sums of the blocks from there on
  // Per block; 0: not seen. A block whose sum is 0 is looked at whenever it is read.
  mutable std::vector<std::atomic<std::uint64_t>> sums_;
};

// The container, from as much of the file's start as it takes: `header`, which the Gguf has views
// into.
Result<Gguf> read_header(const ModelBytes& bytes, std::vector<std::byte>& header);

// A file whose container has been read.
struct ModelFile {
  ModelBytes bytes;
  std::vector<std::byte> header;  // what `gguf` has views into
  Gguf gguf;
};
Result<ModelFile> read_model_file(ModelBytes bytes);

// Reads forward through the blocks, by views into a buffer.
// Thread rule: one thread. Ownership: borrows the ModelBytes.
class ModelReader {
 public:
  explicit ModelReader(const ModelBytes& bytes) : bytes_(bytes) {}

  // `view`: bytes [offset, offset + size), valid until the next call; its address is `offset`
  // modulo 64. What the views of two calls share is read once.
  Status view(std::size_t offset, std::size_t size, std::span<const std::byte>& view);
  const ModelBytes& bytes() const { return bytes_; }

 private:
  const ModelBytes& bytes_;
  std::vector<std::byte> storage_;
  std::byte* buffer_ = nullptr;      // in storage_, at a multiple of 64
  std::size_t capacity_ = 0;         // of buffer_
  std::size_t begin_ = 0, end_ = 0;  // what buffer_ holds; begin_ is a multiple of 64
};

// Threads that loading may use: those of the machine, at most 4.
std::size_t loading_threads(std::size_t bytes);

}  // namespace splitee::runtime
