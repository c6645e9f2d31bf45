// The keys of a model file, checked (names and rules: runtime/bert/model_format.h). Internal to the
// loader. Thread rule: pure functions. Errors: a Status that names the file and the key.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/bert/model.h"
#include "runtime/file/gguf.h"

namespace splitee::runtime {

// A classifier as llama.cpp's converter writes it (cls.output.weight): one exit, on the last layer,
// no content hash.
bool is_llama_classifier(const Gguf& file);

// `classes` is the number of labels, `vocab` the number of tokens; `dtype` stays empty. Tensors are
// not looked at. What every model file says of its exits goes to `info`.
Result<ModelConfig> read_config(const Gguf& file, NetworkInfo& info);

// The vocabulary in BERT's spelling, in id order.
Result<std::vector<std::string>> read_vocab(const Gguf& file);

Result<TokenizerOptions> read_tokenizer_options(const Gguf& file);

}  // namespace splitee::runtime
