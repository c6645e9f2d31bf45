#include "runtime/weights/file_check.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "runtime/file/dequantize.h"
#include "runtime/file/model_keys.h"

namespace splitee::runtime {
namespace {

static_assert(kSummedBlock == ModelBytes::kBlock);

// Looks for values that are not finite: remembers the first tensor in file order that holds one
// while the file is opened, refuses the block from then on.
class FiniteCheck {
 public:
  explicit FiniteCheck(const Gguf& file) : file_name_(file.name()) {
    for (const GgufTensor& tensor : file.tensors()) {
      places_.push_back({std::string(tensor.name), tensor.type, tensor.offset, tensor.size_bytes});
    }
    first_bad_ = places_.size();
  }

  Status look(std::size_t offset, std::span<const std::byte> block) {
    const auto ends_before = [](const Place& place, std::size_t at) {
      return place.offset + place.size_bytes <= at;
    };
    auto it = std::lower_bound(places_.begin(), places_.end(), offset, ends_before);
    for (; it != places_.end() && it->offset < offset + block.size(); ++it) {
      const std::size_t begin = std::max(it->offset, offset);
      const std::size_t end = std::min(it->offset + it->size_bytes, offset + block.size());
      if (all_finite(it->type, block.subspan(begin - offset, end - begin))) continue;
      const auto index = static_cast<std::size_t>(it - places_.begin());
      if (refuses_) return error(index);
      std::size_t least = first_bad_;
      while (index < least && !first_bad_.compare_exchange_weak(least, index)) {
      }
    }
    return {};
  }
  // The end of opening.
  Status found() {
    refuses_ = true;
    return first_bad_ < places_.size() ? error(first_bad_) : Status();
  }

 private:
  struct Place {
    std::string name;
    TensorType type;
    std::size_t offset, size_bytes;
  };
  Status error(std::size_t index) const {
    return {Code::kCorrupt,
            file_name_ + ": tensor " + places_[index].name + " holds a value that is not finite"};
  }

  std::string file_name_;
  std::vector<Place> places_;  // in the order of their offsets
  std::atomic<std::size_t> first_bad_;
  std::atomic<bool> refuses_{false};
};

// The hash that the file claims; where it claims its blocks' sums too, `bytes` is told.
Result<HashPlace> claimed_hash(ModelBytes& bytes, const Gguf& file) {
  Result<HashPlace> claimed = find_content_hash(file);
  if (!claimed.ok()) return claimed;
  Result<BlockSums> sums = read_block_sums(file, bytes.size());
  if (!sums.ok()) return sums.status();
  if (!sums->sums.empty()) bytes.claim(sums->first, std::move(sums->sums));
  return claimed;
}

}  // namespace

// Every byte of the file counts for its hash, and all values have to be finite: who finds something
// else wrong with a damaged file hears of the damage.
Result<std::uint64_t> check_file(ModelBytes& bytes, const Gguf& file, HashClaim claim, bool whole,
                                 const std::function<Status()>& load) {
  const auto finite = std::make_shared<FiniteCheck>(file);
  bytes.watch([finite](std::size_t offset, std::span<const std::byte> block) {
    return finite->look(offset, block);
  });
  std::optional<HashPlace> expected;
  if (claim == HashClaim::kRequired) {
    const Result<HashPlace> claimed = claimed_hash(bytes, file);
    if (!claimed.ok()) return claimed.status();
    expected = *claimed;
  }
  const Status loaded = load();
  const Result<std::uint64_t> found =
      bytes.check(expected ? std::optional(expected->offset) : std::nullopt, whole);
  if (!found.ok()) return found.status();
  if (expected && *found != expected->hash) {
    return file.error(Code::kCorrupt, "the content's hash is " + hash_to_string(*found) + ", not " +
                                          hash_to_string(expected->hash) + " as key " +
                                          std::string(kKeyContentHash) +
                                          " says: the file was damaged or changed");
  }
  if (Status values = finite->found(); !values.ok()) return values;
  if (!loaded.ok()) return loaded;
  return *found;
}

}  // namespace splitee::runtime
