// The model file as every kind of network has it: GGUF v3, and under this project's own prefix
// "splitee." what a multi-exit network adds. What a kind of network has besides is in its folder
// (runtime/bert/model_format.h). Written by tools/convert_hf.py and its like.
// Thread rule: constants, and pure functions. Errors: a Status that names the file and the key.
//
// Bytes (all numbers little-endian)
//   "GGUF" | u32 version = 3 | u64 tensors | u64 key-values | key-values | tensor infos |
//   zero padding to general.alignment | tensor data
//   string:       u64 length, bytes (no terminator)
//   key-value:    string key, u32 type, value. Types: 0 u8, 1 i8, 2 u16, 3 i16, 4 u32, 5 i32,
//                 6 f32, 7 bool (one byte, 0 or 1), 8 string, 9 array (u32 element type, u64
//                 length, elements; an array of arrays is refused), 10 u64, 11 i64, 12 f64.
//   tensor info:  string name, u32 dims (1 .. 4), u64 per dim, innermost first (a matrix
//                 (rows, cols) is stored cols, rows), u32 type, u64 offset from the start of the
//                 tensor data. Types: 0 F32, 1 F16, 24 I8, 30 BF16.
//   Tensor data lies in the order of the tensor infos, each tensor at the next multiple of
//   general.alignment after the one before (the first at 0). The file ends at the last byte of the
//   last tensor, or at the next multiple of the alignment.
//   Keys and tensor names are printable ASCII without spaces, unique; a name has 1 .. 64 bytes.
//
// Keys of every model. Unknown keys are ignored; unknown tensors are refused.
//   general.architecture                  string  the kind of network (runtime/loader/loader.cc)
//   general.alignment                     u32     optional (32); a power of two, 32 .. 65536
//   splitee.content_hash                  u64     required; content_hash (base/hash.h) of the
//                                         whole file with these 8 value bytes taken as zero.
//                                         Checked at load; the model's identity on the wire
//   splitee.block_sums                    array of u64, optional: one per block of 64 KiB of the
//                                         file that begins in the tensor data, or one more, which
//                                         is 0: the sum of the block's terms in content_hash. A
//                                         block can be checked alone then, when it is first used
//   splitee.exit_layers                   array of u32: layers with an exit, 1-based, ascending,
//                                         the last one is L
//   splitee.labels                        array of string, one per class: not empty, valid UTF-8
//                                         without U+0000 .. U+001F and U+007F, unique; at least
//                                         two, at most 4096; with the output "value" one, with
//                                         "sigmoid" at least one
//   splitee.output                        string  optional ("softmax"): what an exit makes of its
//                                         classifier's results: softmax (one of the classes),
//                                         sigmoid (each label on its own), value (the number)
//   splitee.exit_temperatures             array of f32, optional (1): one per exit, 0.001 .. 1000
//   splitee.alpha                         f32     optional: suggested exit threshold, in (0, 1]
//   splitee.exit_alphas                   array of f32, optional: one per exit, in (0, 1], for
//                                         policies with a threshold per exit
//   splitee.prior.confidences             array of f32, optional: the confidence of exit e on row n
//                                         of held-out data at [n * exits + e], at the file's
//                                         temperatures; what policies know of the model at first
//   splitee.prior.predictions             array of u16: its class, in the same order
//   splitee.prior.labels                  array of u16: the rows' true classes; 65535 where
//                                         unknown. For people and tools; policies never see them
//   splitee.prior.kinds                   u32, optional (1): of how many kinds of samples they
//                                         are a mixture, 1 .. 1000; a stream may be of one of these
//   splitee.prior.network                 u64     optional: content hash of a file that answers as
//                                         this one does and has other rows, or none (`splitee
//                                         calibrate --rows-only`): what a policy learned of that
//                                         one is good for this one
//
// Matrices are F32, F16, BF16 or I8, each on its own; vectors are F32, F16 or BF16.
// An I8 matrix NAME (rows, cols) has a companion vector NAME.scale (rows), for instance
// blk.0.attn_q.weight.scale: value = int8 * scale[row]. The matrices of a product, where all of
// them are I8, may have a vector INPUT.input_scale (cols) of values from 1e-4 to 1e4: then value =
// int8 * scale[row] * input_scale[col], and the product's input is multiplied by input_scale before
// it is rounded to bytes (kernels/kernels.h). Every value (after scaling) is finite.
//
// Matrices lie as they are, one form for every machine: the two ends of a link hold the same file
// (they compare its hash) on different instruction sets, and each packs what it uses for its own
// kernels. The type of a matrix is also its arithmetic (runtime/bert/model.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "runtime/file/gguf.h"
#include "runtime/network.h"

namespace splitee::runtime {

inline constexpr std::string_view kKeyArchitecture = "general.architecture";
inline constexpr std::string_view kKeyAlignment = "general.alignment";
inline constexpr std::string_view kKeyContentHash = "splitee.content_hash";
inline constexpr std::string_view kKeyBlockSums = "splitee.block_sums";
inline constexpr std::string_view kKeyExitLayers = "splitee.exit_layers";
inline constexpr std::string_view kKeyLabels = "splitee.labels";
inline constexpr std::string_view kKeyOutput = "splitee.output";
inline constexpr std::string_view kKeyTemperatures = "splitee.exit_temperatures";
inline constexpr std::string_view kKeyAlpha = "splitee.alpha";
inline constexpr std::string_view kKeyExitAlphas = "splitee.exit_alphas";
inline constexpr std::string_view kKeyPriorConfidences = "splitee.prior.confidences";
inline constexpr std::string_view kKeyPriorPredictions = "splitee.prior.predictions";
inline constexpr std::string_view kKeyPriorLabels = "splitee.prior.labels";
inline constexpr std::string_view kKeyPriorKinds = "splitee.prior.kinds";
inline constexpr std::string_view kKeyPriorNetwork = "splitee.prior.network";

inline constexpr std::string_view kScaleSuffix = ".scale";
inline constexpr std::string_view kInputScaleSuffix = ".input_scale";
inline constexpr float kLeastInputScale = 1e-4f, kMostInputScale = 1e4f;

inline constexpr std::size_t kMaxLayers = 1024;
inline constexpr std::size_t kMostPriorKinds = 1000;

// An error about a key: "NAME: key KEY" and the message.
Status bad_key(const Gguf& file, std::string_view key, const std::string& message);
// A u32 key from `least` to `most`.
Status read_size(const Gguf& file, std::string_view key, std::size_t least, std::size_t most,
                 std::size_t& size);

// What `words` has for an optional key of a string; the first one where it is not there.
template <class T, std::size_t kCount>
Status read_word(const Gguf& file, std::string_view key,
                 const std::array<std::pair<std::string_view, T>, kCount>& words, T& value) {
  value = words.front().second;
  if (file.find(key) == nullptr) return {};
  const Result<std::string_view> word = file.get_string(key);
  if (!word.ok()) return word.status();
  std::string known;
  for (const auto& [name, meaning] : words) {
    if (name == *word) {
      value = meaning;
      return {};
    }
    known += (known.empty() ? "" : ", ") + std::string(name);
  }
  return file.error(Code::kUnsupported,
                    "key " + std::string(key) + " is not one of the words known: " + known);
}

// Labels found under a key, checked but for their number.
Status set_labels(const Gguf& file, std::string_view key, std::vector<std::string_view> labels,
                  NetworkInfo& info);

// The content hash that the file claims, and the offset of its 8 bytes.
struct HashPlace {
  std::uint64_t hash = 0;
  std::size_t offset = 0;
};
Result<HashPlace> find_content_hash(const Gguf& file);

// The blocks of 64 KiB, counted from the file's start, whose sums key splitee.block_sums has: from
// `first` to the file's last. None where there is no such key.
inline constexpr std::size_t kSummedBlock = 65536;
struct BlockSums {
  std::size_t first = 0;
  std::vector<std::uint64_t> sums;
};
// The first such block of a file whose tensor data begins at byte `data`.
std::size_t first_summed_block(std::size_t data);
Result<BlockSums> read_block_sums(const Gguf& file, std::size_t file_bytes);

// What the keys above say of a network of so many layers: labels, exits with their thresholds and
// temperatures (1 where the file has none).
Status read_exits(const Gguf& file, std::size_t layers, NetworkInfo& info);

}  // namespace splitee::runtime
