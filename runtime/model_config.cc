#include "runtime/model_config.h"

#include <algorithm>
#include <cmath>

#include "runtime/model_format.h"

namespace splitee::runtime {
namespace {

Status bad_key(const Gguf& file, std::string_view key, const std::string& message) {
  return file.error(Code::kCorrupt, "key " + std::string(key) + message);
}

// A u32 key from `least` to `most`.
Status read_size(const Gguf& file, std::string_view key, std::size_t least, std::size_t most,
                 std::size_t& size) {
  const Result<std::uint32_t> value = file.get_u32(key);
  if (!value.ok()) return value.status();
  if (*value < least || *value > most) {
    return bad_key(file, key,
                   " is " + std::to_string(*value) + "; it must be from " + std::to_string(least) +
                       " to " + std::to_string(most));
  }
  size = *value;
  return {};
}

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
  if (!std::isfinite(*epsilon) || *epsilon <= 0) {
    return bad_key(file, kKeyEpsilon, " is not a positive number");
  }
  config.layer_norm_epsilon = *epsilon;
  return {};
}

Status read_exit_layers(const Gguf& file, ModelConfig& config) {
  const Result<std::vector<std::uint32_t>> layers = file.get_u32_array(kKeyExitLayers);
  if (!layers.ok()) return layers.status();
  if (layers->empty()) return bad_key(file, kKeyExitLayers, " is empty");
  std::uint32_t before = 0;
  for (const std::uint32_t layer : *layers) {
    if (layer <= before) {
      return bad_key(file, kKeyExitLayers, " is not ascending from 1 at " + std::to_string(layer));
    }
    before = layer;
  }
  if (before != config.layers) {
    return bad_key(file, kKeyExitLayers,
                   " ends with " + std::to_string(before) + ", not with the last layer " +
                       std::to_string(config.layers));
  }
  config.exit_layers.assign(layers->begin(), layers->end());
  return {};
}

// Valid UTF-8 (RFC 3629) without control characters.
bool is_plain_text(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size()) {
    const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
    const unsigned lead = byte(i);
    const std::size_t length = lead < 0x80   ? 1
                               : lead < 0xc2 ? 0
                               : lead < 0xe0 ? 2
                               : lead < 0xf0 ? 3
                               : lead < 0xf5 ? 4
                                             : 0;
    if (length == 0 || length > text.size() - i) return false;
    unsigned code = length == 1 ? lead : lead & (0x7fu >> length);
    for (std::size_t k = 1; k < length; ++k) {
      if ((byte(i + k) & 0xc0u) != 0x80u) return false;
      code = code << 6 | (byte(i + k) & 0x3fu);
    }
    const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
    const bool surrogate = code >= 0xd800 && code < 0xe000;
    const bool control = code < 0x20 || code == 0x7f;
    if (overlong || surrogate || control || code > 0x10ffff) return false;
    i += length;
  }
  return true;
}

Status read_labels(const Gguf& file, ModelConfig& config) {
  const Result<std::vector<std::string_view>> labels = file.get_string_array(kKeyLabels);
  if (!labels.ok()) return labels.status();
  if (labels->size() < 2 || labels->size() > kMaxClasses) {
    return bad_key(file, kKeyLabels,
                   " has " + std::to_string(labels->size()) + " entries, not 2 to " +
                       std::to_string(kMaxClasses));
  }
  for (std::size_t i = 0; i < labels->size(); ++i) {
    if ((*labels)[i].empty() || !is_plain_text((*labels)[i])) {
      return bad_key(
          file, kKeyLabels,
          ": entry " + std::to_string(i) + " is empty, or not UTF-8 without control characters");
    }
  }
  std::vector<std::string_view> sorted = *labels;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
    return bad_key(file, kKeyLabels, " has two equal entries");
  }
  config.labels.assign(labels->begin(), labels->end());
  config.classes = config.labels.size();
  return {};
}

Status read_alpha(const Gguf& file, ModelConfig& config) {
  if (file.find(kKeyAlpha) == nullptr) return {};
  const Result<float> alpha = file.get_f32(kKeyAlpha);
  if (!alpha.ok()) return alpha.status();
  if (!(*alpha > 0 && *alpha <= 1)) return bad_key(file, kKeyAlpha, " is not within (0, 1]");
  config.alpha = *alpha;
  return {};
}

Status read_exit_alphas(const Gguf& file, ModelConfig& config) {
  if (file.find(kKeyExitAlphas) == nullptr) return {};
  const Result<std::vector<float>> alphas = file.get_f32_array(kKeyExitAlphas);
  if (!alphas.ok()) return alphas.status();
  if (alphas->size() != config.exit_layers.size()) {
    return bad_key(file, kKeyExitAlphas,
                   " has " + std::to_string(alphas->size()) + " entries for " +
                       std::to_string(config.exit_layers.size()) + " exits");
  }
  for (const float alpha : *alphas) {
    if (!(alpha > 0 && alpha <= 1)) {
      return bad_key(file, kKeyExitAlphas, " has an entry that is not within (0, 1]");
    }
  }
  config.exit_alphas.assign(alphas->begin(), alphas->end());
  return {};
}

constexpr std::int32_t kNormal = 1, kControl = 3, kUserDefined = 4;

}  // namespace

Result<HashPlace> find_content_hash(const Gguf& file) {
  const GgufEntry* entry = file.find(kKeyContentHash);
  if (entry == nullptr) {
    return file.error(Code::kUnsupported, "key " + std::string(kKeyContentHash) +
                                              " is missing: not a multi-exit model written by "
                                              "tools/convert_hf.py");
  }
  const Result<std::uint64_t> hash = file.get_u64(kKeyContentHash);
  if (!hash.ok()) return hash.status();
  return HashPlace{*hash, entry->offset};
}

Result<ModelConfig> read_config(const Gguf& file) {
  ModelConfig config;
  if (Status s = check_architecture(file); !s.ok()) return s;
  if (Status s = read_shape(file, config); !s.ok()) return s;
  if (Status s = read_exit_layers(file, config); !s.ok()) return s;
  if (Status s = read_labels(file, config); !s.ok()) return s;
  if (Status s = read_alpha(file, config); !s.ok()) return s;
  if (Status s = read_exit_alphas(file, config); !s.ok()) return s;
  const Result<std::vector<std::string_view>> tokens = file.get_string_array(kKeyTokens);
  if (!tokens.ok()) return tokens.status();
  config.vocab = tokens->size();
  return config;
}

Result<std::vector<float>> read_temperatures(const Gguf& file, const ModelConfig& config) {
  const std::size_t exits = config.exit_layers.size();
  if (file.find(kKeyTemperatures) == nullptr) return std::vector<float>(exits, 1.0f);
  Result<std::vector<float>> values = file.get_f32_array(kKeyTemperatures);
  if (!values.ok()) return values.status();
  if (values->size() != exits) {
    return bad_key(file, kKeyTemperatures,
                   " has " + std::to_string(values->size()) + " entries for " +
                       std::to_string(exits) + " exits");
  }
  for (const float value : *values) {
    if (!std::isfinite(value) || value <= 0) {
      return bad_key(file, kKeyTemperatures, " has an entry that is not a positive number");
    }
  }
  return values;
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
    if (kind == kControl || kind == kUserDefined) {
      vocab.emplace_back(token);
    } else if (kind != kNormal) {
      return bad_key(file, kKeyTokenKinds,
                     ": entry " + std::to_string(i) + " is " + std::to_string(kind) +
                         "; known are 1, 3 and 4");
    } else if (token.starts_with(kWordMark)) {
      vocab.emplace_back(token.substr(kWordMark.size()));
    } else {
      vocab.push_back("##" + std::string(token));
    }
  }
  return vocab;
}

Result<TokenizerOptions> read_tokenizer_options(const Gguf& file) {
  TokenizerOptions options;
  if (file.find(kKeyLowerCase) == nullptr) return options;
  const Result<bool> lower_case = file.get_bool(kKeyLowerCase);
  if (!lower_case.ok()) return lower_case.status();
  options.lower_case = *lower_case;
  return options;
}

}  // namespace splitee::runtime
