#include "runtime/file/model_keys.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/limits.h"
#include "base/utf8.h"

namespace splitee::runtime {
namespace {

Status read_exit_layers(const Gguf& file, std::size_t network_layers, NetworkInfo& info) {
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
  if (before != network_layers) {
    return bad_key(file, kKeyExitLayers,
                   " ends with " + std::to_string(before) + ", not with the last layer " +
                       std::to_string(network_layers));
  }
  info.exit_layers.assign(layers->begin(), layers->end());
  return {};
}

// UTF-8 without control characters.
bool is_plain_text(std::string_view text) {
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  return valid_utf8(text) && std::none_of(text.begin(), text.end(), is_control);
}

Status read_output(const Gguf& file, NetworkInfo& info) {
  using Word = std::pair<std::string_view, Output>;
  constexpr std::array kWords = {Word("softmax", Output::kClasses),
                                 Word("sigmoid", Output::kLabels), Word("value", Output::kValue)};
  return read_word(file, kKeyOutput, kWords, info.output);
}

// How many labels there may be.
std::pair<std::size_t, std::size_t> label_bounds(Output output) {
  if (output == Output::kValue) return {1, 1};
  return {output == Output::kLabels ? 1 : 2, kMaxClasses};
}

Status read_labels(const Gguf& file, NetworkInfo& info) {
  const Result<std::vector<std::string_view>> labels = file.get_string_array(kKeyLabels);
  if (!labels.ok()) return labels.status();
  const auto [least, most] = label_bounds(info.output);
  if (labels->size() < least || labels->size() > most) {
    return bad_key(file, kKeyLabels,
                   " has " + std::to_string(labels->size()) + " entries, not " +
                       std::to_string(least) + " to " + std::to_string(most));
  }
  return set_labels(file, kKeyLabels, *labels, info);
}

Status read_alpha(const Gguf& file, NetworkInfo& info) {
  if (file.find(kKeyAlpha) == nullptr) return {};
  const Result<float> alpha = file.get_f32(kKeyAlpha);
  if (!alpha.ok()) return alpha.status();
  if (!(*alpha > 0 && *alpha <= 1)) return bad_key(file, kKeyAlpha, " is not within (0, 1]");
  info.alpha = *alpha;
  return {};
}

Status read_exit_alphas(const Gguf& file, NetworkInfo& info) {
  if (file.find(kKeyExitAlphas) == nullptr) return {};
  const Result<std::vector<float>> alphas = file.get_f32_array(kKeyExitAlphas);
  if (!alphas.ok()) return alphas.status();
  if (alphas->size() != info.exit_layers.size()) {
    return bad_key(file, kKeyExitAlphas,
                   " has " + std::to_string(alphas->size()) + " entries for " +
                       std::to_string(info.exit_layers.size()) + " exits");
  }
  for (const float alpha : *alphas) {
    if (!(alpha > 0 && alpha <= 1)) {
      return bad_key(file, kKeyExitAlphas, " has an entry that is not within (0, 1]");
    }
  }
  info.exit_alphas.assign(alphas->begin(), alphas->end());
  return {};
}

// The rows that policies begin with (NetworkInfo::held_out), out of classes and confidences.
Status read_prior(const Gguf& file, NetworkInfo& info) {
  if (file.find(kKeyPriorConfidences) == nullptr) return {};
  const Result<std::vector<float>> confidences = file.get_f32_array(kKeyPriorConfidences);
  if (!confidences.ok()) return confidences.status();
  const Result<std::vector<std::uint16_t>> classes = file.get_u16_array(kKeyPriorPredictions);
  if (!classes.ok()) return classes.status();
  const std::size_t exits = info.exit_layers.size();
  if (confidences->size() % exits != 0) {
    return bad_key(file, kKeyPriorConfidences, " is not a number of rows with an entry per exit");
  }
  if (classes->size() != confidences->size()) {
    return bad_key(file, kKeyPriorPredictions,
                   " has another number of entries than " + std::string(kKeyPriorConfidences));
  }
  info.held_out.resize(confidences->size());
  for (std::size_t i = 0; i < confidences->size(); ++i) {
    const float confidence = (*confidences)[i];
    if (!(confidence >= 0 && confidence <= 1)) {
      return bad_key(file, kKeyPriorConfidences, " has an entry that is not within [0, 1]");
    }
    if ((*classes)[i] >= info.classes()) {
      return bad_key(file, kKeyPriorPredictions, " has an entry that is no class");
    }
    const std::size_t last = i - i % exits + exits - 1;
    info.held_out[i] = (*classes)[i] == (*classes)[last] ? confidence : -confidence;
  }
  if (file.find(kKeyPriorKinds) == nullptr) return {};
  return read_size(file, kKeyPriorKinds, 1, kMostPriorKinds, info.held_out_kinds);
}

Status read_prior_network(const Gguf& file, NetworkInfo& info) {
  if (file.find(kKeyPriorNetwork) == nullptr) return {};
  const Result<std::uint64_t> hash = file.get_u64(kKeyPriorNetwork);
  if (!hash.ok()) return hash.status();
  info.answers_as = *hash;
  return {};
}

// Beyond these, logits divided by it are no longer finite, or all the same.
constexpr float kLeastTemperature = 1e-3f, kMostTemperature = 1e3f;

Status read_temperatures(const Gguf& file, NetworkInfo& info) {
  const std::size_t exits = info.exit_layers.size();
  info.temperatures.assign(exits, 1.0f);
  if (file.find(kKeyTemperatures) == nullptr) return {};
  const Result<std::vector<float>> values = file.get_f32_array(kKeyTemperatures);
  if (!values.ok()) return values.status();
  if (values->size() != exits) {
    return bad_key(file, kKeyTemperatures,
                   " has " + std::to_string(values->size()) + " entries for " +
                       std::to_string(exits) + " exits");
  }
  for (const float value : *values) {
    if (!(value >= kLeastTemperature && value <= kMostTemperature)) {
      return bad_key(file, kKeyTemperatures, " has an entry that is not within [0.001, 1000]");
    }
  }
  info.temperatures = *values;
  return {};
}

}  // namespace

Status bad_key(const Gguf& file, std::string_view key, const std::string& message) {
  return file.error(Code::kCorrupt, "key " + std::string(key) + message);
}

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

Status set_labels(const Gguf& file, std::string_view key, std::vector<std::string_view> labels,
                  NetworkInfo& info) {
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i].empty() || !is_plain_text(labels[i])) {
      return bad_key(
          file, key,
          ": entry " + std::to_string(i) + " is empty, or not UTF-8 without control characters");
    }
  }
  info.labels.assign(labels.begin(), labels.end());
  std::sort(labels.begin(), labels.end());
  if (std::adjacent_find(labels.begin(), labels.end()) == labels.end()) return {};
  return bad_key(file, key, " has two equal entries");
}

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

std::size_t first_summed_block(std::size_t data) {
  return data / kSummedBlock + (data % kSummedBlock != 0 ? 1 : 0);
}

Result<BlockSums> read_block_sums(const Gguf& file, std::size_t file_bytes) {
  if (file.find(kKeyBlockSums) == nullptr || file.tensors().empty()) return BlockSums{};
  Result<std::vector<std::uint64_t>> sums = file.get_u64_array(kKeyBlockSums);
  if (!sums.ok()) return sums.status();
  const std::size_t end = first_summed_block(file_bytes);
  const std::size_t first = std::min(end, first_summed_block(file.tensors().front().offset));
  const std::size_t count = end - first;
  const bool one_more = sums->size() == count + 1 && sums->back() == 0;
  if (sums->size() != count && !one_more) {
    return bad_key(file, kKeyBlockSums,
                   " has " + std::to_string(sums->size()) + " entries for " +
                       std::to_string(count) + " blocks");
  }
  sums->resize(count);
  return BlockSums{first, std::move(*sums)};
}

Status read_exits(const Gguf& file, std::size_t layers, NetworkInfo& info) {
  if (Status s = read_exit_layers(file, layers, info); !s.ok()) return s;
  if (Status s = read_output(file, info); !s.ok()) return s;
  if (Status s = read_labels(file, info); !s.ok()) return s;
  if (Status s = read_alpha(file, info); !s.ok()) return s;
  if (Status s = read_exit_alphas(file, info); !s.ok()) return s;
  if (Status s = read_prior(file, info); !s.ok()) return s;
  if (Status s = read_prior_network(file, info); !s.ok()) return s;
  return read_temperatures(file, info);
}

}  // namespace splitee::runtime
