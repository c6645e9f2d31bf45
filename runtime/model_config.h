// The keys of a model file, checked (names and rules: runtime/model_format.h). Internal to the
// loader. Thread rule: pure functions. Errors: a Status that names the file and the key.
#pragma once

#include <string>
#include <vector>

#include "runtime/gguf.h"
#include "runtime/model.h"
#include "runtime/status.h"

namespace splitee::runtime {

// The content hash that the file claims, and the offset of its 8 bytes.
struct HashPlace {
  std::uint64_t hash = 0;
  std::size_t offset = 0;
};
Result<HashPlace> find_content_hash(const Gguf& file);

// `classes` is the number of labels, `vocab` the number
// of tokens; `dtype` stays empty. Tensors are not looked at.
Result<ModelConfig> read_config(const Gguf& file);

// One per exit; 1 where the file has none.
Result<std::vector<float>> read_temperatures(const Gguf& file, const ModelConfig& config);

// The vocabulary in BERT's spelling, in id order.
Result<std::vector<std::string>> read_vocab(const Gguf& file);

Result<TokenizerOptions> read_tokenizer_options(const Gguf& file);

}  // namespace splitee::runtime
