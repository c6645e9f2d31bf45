#include "runtime/bert/model_config.h"

#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "base/limits.h"
#include "runtime/bert/model_format.h"
#include "runtime/file/model_keys.h"

namespace splitee::runtime {
namespace {

constexpr float kLeastEpsilon = 1e-20f;  // what is divided by its root stays finite

Status check_architecture(const Gguf& file) {
  for (const auto& [key, expected] : {std::pair(kKeyArchitecture, std::string_view("bert")),
                                      std::pair(kKeyTokenizer, std::string_view("bert"))}) {
    const Result<std::string_view> value = file.get_string(key);
    if (!value.ok()) return value.status();
    if (*value != expected) {
      return file.error(Code::kUnsupported, "key " + std::string(key) + " is not \"" +
                                                std::string(expected) +
                                                "\"; nothing else is known");
    }
  }
  if (file.find(kKeyCausal) == nullptr) return {};
  const Result<bool> causal = file.get_bool(kKeyCausal);
  if (!causal.ok()) return causal.status();
  if (!*causal) return {};
  return file.error(Code::kUnsupported,
                    "key " + std::string(kKeyCausal) + " is true; causal models are not known");
}

Status read_shape(const Gguf& file, ModelConfig& config) {
  constexpr std::size_t kMaxTypes = 65536;
  if (Status s = read_size(file, kKeyLayers, 1, kMaxLayers, config.layers); !s.ok()) return s;
  if (Status s = read_size(file, kKeyContext, kMinContext, kMaxContext, config.max_tokens);
      !s.ok()) {
    return s;
  }
  if (Status s = read_size(file, kKeyHidden, 1, kMaxHidden, config.hidden); !s.ok()) return s;
  if (Status s = read_size(file, kKeyFfn, 1, kMaxFfn, config.ffn); !s.ok()) return s;
  if (Status s = read_size(file, kKeyHeads, 1, kMaxHidden, config.heads); !s.ok()) return s;
  if (config.hidden % config.heads != 0) {
    return bad_key(file, kKeyHidden,
                   " is " + std::to_string(config.hidden) + ", not a multiple of the " +
                       std::to_string(config.heads) + " heads");
  }
  if (Status s = read_size(file, kKeyTypeCount, 1, kMaxTypes, config.token_types); !s.ok()) {
    return s;
  }
  const Result<float> epsilon = file.get_f32(kKeyEpsilon);
  if (!epsilon.ok()) return epsilon.status();
  if (!(*epsilon >= kLeastEpsilon && *epsilon <= 1.0f)) {
    return bad_key(file, kKeyEpsilon, " is not within [1e-20, 1]");
  }
  config.layer_norm_epsilon = *epsilon;
  return {};
}

Status read_pooling(const Gguf& file, ModelConfig& config) {
  if (file.find(kKeyPooling) == nullptr) return {};
  const Result<std::uint32_t> value = file.get_u32(kKeyPooling);
  if (!value.ok()) return value.status();
  if (*value != kPoolingMean && *value != kPoolingFirst) {
    return file.error(Code::kUnsupported, "key " + std::string(kKeyPooling) + " is " +
                                              std::to_string(*value) +
                                              "; known are 1 (mean of the rows) and 2 (first row)");
  }
  config.pooling = *value == kPoolingMean ? Pooling::kMean : Pooling::kFirstToken;
  return {};
}

Status read_arithmetic(const Gguf& file, ModelConfig& config) {
  using kernels::Epilogue;
  using Activation = std::pair<std::string_view, Epilogue>;
  using Pooler = std::pair<std::string_view, PoolerActivation>;
  constexpr std::array kActivations = {
      Activation("gelu", Epilogue::kGelu), Activation("gelu_tanh", Epilogue::kGeluTanh),
      Activation("relu", Epilogue::kRelu), Activation("silu", Epilogue::kSilu)};
  constexpr std::array kPoolers = {Pooler("tanh", PoolerActivation::kTanh),
                                   Pooler("relu", PoolerActivation::kRelu),
                                   Pooler("gelu", PoolerActivation::kGelu)};
  if (Status s = read_word(file, kKeyActivation, kActivations, config.activation); !s.ok()) {
    return s;
  }
  return read_word(file, kKeyPoolerActivation, kPoolers, config.pooler_activation);
}

constexpr std::string_view kLlamaOutput = "cls.output.weight", kLlamaPooler = "cls.weight";

// The exit of a classifier of llama.cpp.
Status read_llama_exit(const Gguf& file, ModelConfig& config, NetworkInfo& info) {
  constexpr std::uint32_t kRank = 4;
  if (file.find(kKeyPooling) != nullptr) {
    const Result<std::uint32_t> pooling = file.get_u32(kKeyPooling);
    if (!pooling.ok()) return pooling.status();
    if (*pooling != kPoolingFirst && *pooling != kRank) {
      return file.error(Code::kUnsupported, "key " + std::string(kKeyPooling) + " is " +
                                                std::to_string(*pooling) + ", not 2 or 4");
    }
  }
  info.exit_layers = {config.layers};
  info.temperatures = {1.0f};
  config.pooler = file.find_tensor(kLlamaPooler) != nullptr;
  const GgufTensor& output = *file.find_tensor(kLlamaOutput);
  const std::size_t classes = output.rank == 1 ? 1 : output.dims[0];
  if (classes > kMaxClasses) {
    return file.error(Code::kUnsupported, "tensor " + std::string(kLlamaOutput) + " has " +
                                              std::to_string(classes) + " rows");
  }
  if (classes == 1) info.output = Output::kValue;
  if (file.find(kKeyLlamaLabels) == nullptr) {
    for (std::size_t i = 0; i < classes; ++i) info.labels.push_back("LABEL_" + std::to_string(i));
    return {};
  }
  const Result<std::vector<std::string_view>> labels = file.get_string_array(kKeyLlamaLabels);
  if (!labels.ok()) return labels.status();
  if (labels->size() == classes) return set_labels(file, kKeyLlamaLabels, *labels, info);
  return bad_key(file, kKeyLlamaLabels,
                 " has " + std::to_string(labels->size()) + " entries for " +
                     std::to_string(classes) + " rows of " + std::string(kLlamaOutput));
}

constexpr std::int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;

}  // namespace

bool is_llama_classifier(const Gguf& file) {
  return file.find(kKeyContentHash) == nullptr && file.find(kKeyExitLayers) == nullptr &&
         file.find_tensor(kLlamaOutput) != nullptr;
}

Result<ModelConfig> read_config(const Gguf& file, NetworkInfo& info) {
  ModelConfig config;
  if (Status s = check_architecture(file); !s.ok()) return s;
  if (Status s = read_shape(file, config); !s.ok()) return s;
  if (Status s = read_arithmetic(file, config); !s.ok()) return s;
  if (is_llama_classifier(file)) {
    if (Status s = read_llama_exit(file, config, info); !s.ok()) return s;
  } else {
    if (Status s = read_pooling(file, config); !s.ok()) return s;
    if (Status s = read_exits(file, config.layers, info); !s.ok()) return s;
  }
  config.exit_layers = info.exit_layers;
  config.classes = info.classes();
  config.output = info.output;
  const Result<std::vector<std::string_view>> tokens = file.get_string_array(kKeyTokens);
  if (!tokens.ok()) return tokens.status();
  config.vocab = tokens->size();
  return config;
}

Result<std::vector<std::string>> read_vocab(const Gguf& file) {
  const Result<std::vector<std::string_view>> tokens = file.get_string_array(kKeyTokens);
  if (!tokens.ok()) return tokens.status();
  const Result<std::vector<std::int32_t>> kinds = file.get_i32_array(kKeyTokenKinds);
  if (!kinds.ok()) return kinds.status();
  if (kinds->size() != tokens->size()) {
    return bad_key(file, kKeyTokenKinds,
                   " has " + std::to_string(kinds->size()) + " entries for " +
                       std::to_string(tokens->size()) + " tokens");
  }
  std::vector<std::string> vocab;
  vocab.reserve(tokens->size());
  for (std::size_t i = 0; i < tokens->size(); ++i) {
    const std::string_view token = (*tokens)[i];
    const std::int32_t kind = (*kinds)[i];
    if (kind == kControl || kind == kUserDefined || kind == kUnused) {
      vocab.emplace_back(token);
    } else if (kind != kNormal) {
      return bad_key(file, kKeyTokenKinds,
                     ": entry " + std::to_string(i) + " is " + std::to_string(kind) +
                         "; known are 1, 3, 4 and 5");
    } else if (token.starts_with(kWordMark)) {
      vocab.emplace_back(token.substr(kWordMark.size()));
    } else {
      vocab.push_back("##" + std::string(token));
    }
  }
  return vocab;
}

namespace {

// A flag that may be missing.
Status read_flag(const Gguf& file, std::string_view key, std::optional<bool>& value) {
  if (file.find(key) == nullptr) return {};
  const Result<bool> found = file.get_bool(key);
  if (!found.ok()) return found.status();
  value = *found;
  return {};
}

Status read_added_tokens(const Gguf& file, std::vector<AddedToken>& added) {
  constexpr std::uint32_t kSingleWord = 1, kNormalized = 2, kWord = 4, kAll = 7;
  constexpr std::uint32_t kMaxId = std::numeric_limits<std::int32_t>::max();
  if (file.find(kKeyAddedTokens) == nullptr && file.find(kKeyAddedTokenFlags) == nullptr) return {};
  const Result<std::vector<std::uint32_t>> ids = file.get_u32_array(kKeyAddedTokens);
  if (!ids.ok()) return ids.status();
  const Result<std::vector<std::uint32_t>> flags = file.get_u32_array(kKeyAddedTokenFlags);
  if (!flags.ok()) return flags.status();
  if (flags->size() != ids->size()) {
    return bad_key(file, kKeyAddedTokenFlags,
                   " has " + std::to_string(flags->size()) + " entries for " +
                       std::to_string(ids->size()) + " added tokens");
  }
  for (std::size_t i = 0; i < ids->size(); ++i) {
    const std::uint32_t id = (*ids)[i], flag = (*flags)[i];
    if (id > kMaxId || flag > kAll) {
      return bad_key(file, id > kMaxId ? kKeyAddedTokens : kKeyAddedTokenFlags,
                     ": entry " + std::to_string(i) + " is out of range");
    }
    added.push_back({static_cast<std::int32_t>(id), (flag & kSingleWord) != 0,
                     (flag & kNormalized) != 0, (flag & kWord) != 0});
  }
  return {};
}

}  // namespace

Result<TokenizerOptions> read_tokenizer_options(const Gguf& file) {
  TokenizerOptions options;
  std::optional<bool> lower_case, split_ideographs;
  for (const auto& [key, value] : {std::pair(kKeyLowerCase, &lower_case),
                                   {kKeyStripAccents, &options.strip_accents},
                                   {kKeySplitIdeographs, &split_ideographs}}) {
    if (Status s = read_flag(file, key, *value); !s.ok()) return s;
  }
  options.lower_case = lower_case.value_or(true);
  options.split_ideographs = split_ideographs.value_or(true);
  if (Status s = read_added_tokens(file, options.added_tokens); !s.ok()) return s;
  return options;
}

}  // namespace splitee::runtime
