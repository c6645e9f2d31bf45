#include "runtime/file/model_bytes.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>

#include "base/hash.h"
#include "runtime/thread_pool.h"

namespace splitee::runtime {
namespace {

// Bytes that are read at once by check(): they stay in the second-level cache.
constexpr std::size_t kStep = 4 * ModelBytes::kBlock;
constexpr std::size_t kAlignment = 64;
constexpr std::size_t kWord = sizeof(std::uint64_t);

static_assert(ModelBytes::kBlock % kWord == 0, "a block's sum is a sum of whole words");

std::uint64_t sum_of_block(std::size_t block, std::span<const std::byte> bytes) {
  return content_hash_terms(bytes, block * ModelBytes::kBlock / kWord);
}

}  // namespace

std::size_t loading_threads(std::size_t bytes) {
  constexpr std::size_t kMost = 4, kWorthAThread = std::size_t{4} << 20;
  const std::size_t machine = std::max(1u, std::thread::hardware_concurrency());
  return std::min({kMost, machine, 1 + bytes / kWorthAThread});
}

Result<ModelBytes> ModelBytes::open(const std::string& path) {
  Result<InputFile> file = InputFile::open(path);
  if (!file.ok()) return file.status();
  ModelBytes bytes;
  bytes.name_ = path;
  bytes.size_ = file->size();
  bytes.file_ = std::make_unique<InputFile>(std::move(*file));
  return bytes;
}

ModelBytes ModelBytes::from_memory(std::string name, std::span<const std::byte> memory) {
  ModelBytes bytes;
  bytes.name_ = std::move(name);
  bytes.size_ = memory.size();
  bytes.memory_ = memory;
  return bytes;
}

Status ModelBytes::read(std::size_t offset, std::span<std::byte> out) const {
  SPLITEE_CHECK(offset <= size_ && out.size() <= size_ - offset);
  if (file_ != nullptr) return file_->read(offset, out);
  std::copy_n(memory_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
  return {};
}

void ModelBytes::watch(Visit visit) {
  visit_ = std::move(visit);
  sums_ = std::vector<std::atomic<std::uint64_t>>(blocks());
}

void ModelBytes::claim(std::size_t first, std::vector<std::uint64_t> sums) {
  SPLITEE_CHECK(first + sums.size() == sums_.size());
  first_claimed_ = first;
  claimed_ = std::move(sums);
}

Status ModelBytes::read_blocks(std::size_t first, std::size_t count, std::byte* out) const {
  SPLITEE_CHECK(count > 0 && first + count <= sums_.size());
  const std::size_t begin = first * kBlock;
  if (Status s = read(begin, {out, block_end(first + count - 1) - begin}); !s.ok()) return s;
  for (std::size_t block = first; block < first + count; ++block) {
    const std::size_t offset = block * kBlock;
    const std::span bytes(out + (offset - begin), block_end(block) - offset);
    if (Status s = see_block(block, bytes); !s.ok()) return s;
  }
  return {};
}

Status ModelBytes::see_block(std::size_t block, std::span<const std::byte> bytes) const {
  const std::uint64_t sum = sum_of_block(block, bytes);
  const auto wrong = [&](const char* what) {
    return Status(Code::kCorrupt,
                  name_ + ": the block at byte " + std::to_string(block * kBlock) + what);
  };
  if (is_claimed(block)) {
    if (sum != claimed_[block - first_claimed_]) {
      return wrong(" is not the one that was written there: the file was damaged or changed");
    }
    sums_[block] = sum;
    return visit_(block * kBlock, bytes);
  }
  std::uint64_t before = 0;
  if (sums_[block].compare_exchange_strong(before, sum)) {
    return visit_ ? visit_(block * kBlock, bytes) : Status();
  }
  return before == sum ? Status() : wrong(" changed after the file was opened");
}

Status ModelBytes::see_blocks(std::size_t first, std::size_t last,
                              std::span<std::byte> buffer) const {
  while (first < last && sums_[first] != 0) ++first;
  while (first < last && sums_[last - 1] != 0) --last;
  return first == last ? Status() : read_blocks(first, last - first, buffer.data());
}

Result<std::uint64_t> ModelBytes::check(std::optional<std::size_t> zeroed, bool whole) {
  const std::size_t wanted = whole ? blocks() : std::min(blocks(), first_claimed_);
  ThreadPool pool(loading_threads(wanted * kBlock));
  std::vector<std::byte> buffers(pool.threads() * kStep);
  std::vector<Status> problems(pool.threads());
  constexpr std::size_t kBlocks = kStep / kBlock;
  pool.share((wanted + kBlocks - 1) / kBlocks, 1,
             [&](std::size_t worker, std::size_t begin, std::size_t end) {
               const auto buffer = std::span(buffers).subspan(worker * kStep, kStep);
               for (std::size_t i = begin; i < end && problems[worker].ok(); ++i) {
                 problems[worker] =
                     see_blocks(i * kBlocks, std::min((i + 1) * kBlocks, wanted), buffer);
               }
             });
  if (claimed_.empty()) visit_ = nullptr;
  for (const Status& problem : problems) {
    if (!problem.ok()) return problem;
  }
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < blocks(); ++i) {
    sum += is_claimed(i) ? claimed_[i - first_claimed_] : sums_[i].load();
  }
  if (!zeroed) return content_hash_finish(sum, size_);
  // The zeroed bytes lie in at most two words, whose terms are exchanged.
  const std::size_t begin = *zeroed / kWord * kWord;
  std::array<std::byte, 2 * kWord> words{};
  const auto window = std::span(words).first(std::min(words.size(), size_ - begin));
  if (Status s = read(begin, window); !s.ok()) return s;
  sum -= content_hash_terms(window, begin / kWord);
  std::fill_n(window.begin() + static_cast<std::ptrdiff_t>(*zeroed - begin), kWord, std::byte{0});
  sum += content_hash_terms(window, begin / kWord);
  return content_hash_finish(sum, size_);
}

Status ModelBytes::check_same(std::span<const std::byte> first_bytes) const {
  const std::size_t end = std::min(blocks(), first_claimed_);  // what follows is data alone
  for (std::size_t block = 0; block < end && block_end(block) <= first_bytes.size(); ++block) {
    const std::size_t offset = block * kBlock;
    const auto bytes = first_bytes.subspan(offset, block_end(block) - offset);
    if (Status s = see_block(block, bytes); !s.ok()) return s;
  }
  return {};
}

Result<Gguf> read_header(const ModelBytes& bytes, std::vector<std::byte>& header) {
  constexpr std::size_t kFirst = std::size_t{1} << 20, kMost = std::size_t{256} << 20;
  std::size_t size = std::min(kFirst, bytes.size());
  for (;;) {
    header.resize(size);
    if (Status s = bytes.read(0, header); !s.ok()) return s;
    std::size_t needed = 0;
    Result<Gguf> file = Gguf::parse(bytes.name(), header, bytes.size(), needed);
    if (file.ok() || needed == 0) return file;
    if (needed > kMost) {
      return Status(Code::kUnsupported, bytes.name() +
                                            ": the keys and tensor infos take more than " +
                                            std::to_string(kMost >> 20) + " MiB");
    }
    // Whole blocks, so that check_same() covers all of it.
    needed = (std::max(needed, 2 * size) / ModelBytes::kBlock + 1) * ModelBytes::kBlock;
    size = std::min(needed, bytes.size());
  }
}

Result<ModelFile> read_model_file(ModelBytes bytes) {
  std::vector<std::byte> header;
  Result<Gguf> gguf = read_header(bytes, header);
  if (!gguf.ok()) return gguf.status();
  return ModelFile{std::move(bytes), std::move(header), std::move(*gguf)};
}

Status ModelReader::view(std::size_t offset, std::size_t size, std::span<const std::byte>& view) {
  SPLITEE_CHECK(offset <= bytes_.size() && size <= bytes_.size() - offset);
  if (offset < begin_ || offset + size > end_) {
    const bool reuse = offset >= begin_ && offset < end_;
    const std::size_t begin =
        reuse ? offset / kAlignment * kAlignment : offset / ModelBytes::kBlock * ModelBytes::kBlock;
    const std::size_t next = reuse ? end_ / ModelBytes::kBlock : begin / ModelBytes::kBlock;
    const std::size_t last = (offset + size + ModelBytes::kBlock - 1) / ModelBytes::kBlock;
    const std::size_t kept = reuse ? end_ - begin : 0;
    const std::size_t needed = kept + (last - next) * ModelBytes::kBlock;
    if (needed > capacity_) {
      std::vector<std::byte> storage(needed + kAlignment);
      std::byte* buffer =
          storage.data() + -reinterpret_cast<std::uintptr_t>(storage.data()) % kAlignment;
      std::copy_n(buffer_ + (begin - begin_), kept, buffer);
      storage_ = std::move(storage);
      buffer_ = buffer;
      capacity_ = needed;
    } else {
      std::memmove(buffer_, buffer_ + (begin - begin_), kept);
    }
    begin_ = begin;
    end_ = begin + kept;
    if (Status s = bytes_.read_blocks(next, last - next, buffer_ + kept); !s.ok()) {
      end_ = begin_;
      return s;
    }
    end_ = std::min(last * ModelBytes::kBlock, bytes_.size());
  }
  view = {buffer_ + (offset - begin_), size};
  return {};
}

}  // namespace splitee::runtime
