#include "runtime/weights/file_check.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <string>

#include "base/hash.h"
#include "runtime/file/dequantize.h"
#include "runtime/file/model_keys.h"

namespace splitee::runtime {
namespace {

// The first tensor in file order that holds a value that is not finite, if a block does.
class FiniteCheck {
 public:
  explicit FiniteCheck(const std::vector<GgufTensor>& tensors)
      : tensors_(tensors), first_bad_(tensors.size()) {}

  void look(std::size_t offset, std::span<const std::byte> block) {
    const auto ends_before = [](const GgufTensor& tensor, std::size_t at) {
      return tensor.offset + tensor.size_bytes <= at;
    };
    auto it = std::lower_bound(tensors_.begin(), tensors_.end(), offset, ends_before);
    for (; it != tensors_.end() && it->offset < offset + block.size(); ++it) {
      const std::size_t begin = std::max(it->offset, offset);
      const std::size_t end = std::min(it->offset + it->size_bytes, offset + block.size());
      if (all_finite(it->type, block.subspan(begin - offset, end - begin))) continue;
      const auto index = static_cast<std::size_t>(it - tensors_.begin());
      std::size_t least = first_bad_;
      while (index < least && !first_bad_.compare_exchange_weak(least, index)) {
      }
    }
  }
  // tensors.size(): none.
  std::size_t first_bad() const { return first_bad_; }

 private:
  const std::vector<GgufTensor>& tensors_;  // their data in the order of their offsets
  std::atomic<std::size_t> first_bad_;
};

}  // namespace

// Every byte of the file counts for its hash, and all values have to be finite: who finds something
// else wrong with a damaged file hears of the damage.
Result<std::uint64_t> check_file(ModelBytes& bytes, const Gguf& file, bool claims_hash,
                                 const std::function<Status()>& load) {
  std::optional<HashPlace> expected;
  if (claims_hash) {
    const Result<HashPlace> claimed = find_content_hash(file);
    if (!claimed.ok()) return claimed.status();
    expected = *claimed;
  }
  FiniteCheck finite(file.tensors());
  bytes.watch(
      [&](std::size_t offset, std::span<const std::byte> block) { finite.look(offset, block); });
  const Status loaded = load();
  const Result<std::uint64_t> found =
      bytes.check(expected ? std::optional(expected->offset) : std::nullopt);
  if (!found.ok()) return found.status();
  if (expected && *found != expected->hash) {
    return file.error(Code::kCorrupt, "the content's hash is " + hash_to_string(*found) + ", not " +
                                          hash_to_string(expected->hash) + " as key " +
                                          std::string(kKeyContentHash) +
                                          " says: the file was damaged or changed");
  }
  if (finite.first_bad() < file.tensors().size()) {
    return file.error(Code::kCorrupt, "tensor " +
                                          std::string(file.tensors()[finite.first_bad()].name) +
                                          " holds a value that is not finite");
  }
  if (!loaded.ok()) return loaded;
  return *found;
}

}  // namespace splitee::runtime
