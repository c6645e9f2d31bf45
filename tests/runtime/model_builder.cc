#include "tests/runtime/model_builder.h"

#include <algorithm>
#include <random>
#include <stdexcept>

#include "runtime/hash.h"

namespace splitee::runtime::testing {
namespace {

template <class Items, class Field>
auto find_by(Items& items, Field field, std::string_view name) {
  const auto it = std::find_if(items.begin(), items.end(),
                               [&](const auto& item) { return item.*field == name; });
  if (it == items.end()) throw std::logic_error("the test's file has no " + std::string(name));
  return it;
}

void pad(std::string& bytes, std::size_t alignment) {
  bytes.resize((bytes.size() + alignment - 1) / alignment * alignment, '\0');
}

class RandomModel {
 public:
  explicit RandomModel(const ModelShape& shape) : shape_(shape), random_(shape.seed) {}

  FileSpec make() {
    add_keys();
    const std::uint64_t hidden = shape_.hidden;
    add("token_embd.weight", {shape_.vocab, hidden}, 1.0f);
    add("token_types.weight", {shape_.types, hidden}, 1.0f);
    add("position_embd.weight", {shape_.positions, hidden}, 1.0f);
    add_norm("token_embd_norm");
    for (std::size_t i = 0; i < shape_.layers; ++i) add_layer("blk." + std::to_string(i) + ".");
    for (const std::uint32_t layer : shape_.exit_layers) {
      const std::string prefix = "splitee.exit." + std::to_string(layer) + ".";
      add_linear(prefix + "pooler", hidden, hidden);
      add_linear(prefix + "classifier", shape_.classes, hidden);
    }
    return std::move(spec_);
  }

 private:
  void add_keys() {
    const auto u32 = [&](const char* key, std::size_t value) {
      spec_.keys.push_back({key, kU32, raw(static_cast<std::uint32_t>(value))});
    };
    spec_.keys.push_back({"general.architecture", kString, raw_string("bert")});
    u32("general.alignment", 32);
    u32("bert.block_count", shape_.layers);
    u32("bert.context_length", shape_.positions);
    u32("bert.embedding_length", shape_.hidden);
    u32("bert.feed_forward_length", shape_.ffn);
    u32("bert.attention.head_count", shape_.heads);
    spec_.keys.push_back({"bert.attention.layer_norm_epsilon", kF32, raw(1e-12f)});
    add_vocab();
    u32("tokenizer.ggml.token_type_count", shape_.types);
    spec_.keys.push_back({"splitee.content_hash", kU64, raw<std::uint64_t>(0)});
    std::string layers, labels;
    for (const std::uint32_t layer : shape_.exit_layers) layers += raw(layer);
    for (std::size_t c = 0; c < shape_.classes; ++c) labels += raw_string("c" + std::to_string(c));
    spec_.keys.push_back(
        {"splitee.exit_layers", kArray, raw_array(kU32, shape_.exit_layers.size(), layers)});
    spec_.keys.push_back({"splitee.labels", kArray, raw_array(kString, shape_.classes, labels)});
  }

  void add_vocab() {
    const std::vector<std::string> special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    std::string tokens, kinds;
    for (std::size_t i = 0; i < shape_.vocab; ++i) {
      const bool is_special = i < special.size();
      const std::string mark = i % 2 == 0 ? "\xe2\x96\x81" : "";
      tokens += raw_string(is_special ? special[i] : mark + "t" + std::to_string(i));
      kinds += raw<std::int32_t>(is_special ? 3 : 1);
    }
    spec_.keys.push_back({"tokenizer.ggml.model", kString, raw_string("bert")});
    spec_.keys.push_back(
        {"tokenizer.ggml.tokens", kArray, raw_array(kString, shape_.vocab, tokens)});
    spec_.keys.push_back(
        {"tokenizer.ggml.token_type", kArray, raw_array(kI32, shape_.vocab, kinds)});
  }

  void add_layer(const std::string& prefix) {
    const std::uint64_t hidden = shape_.hidden, ffn = shape_.ffn;
    for (const char* part : {"attn_q", "attn_k", "attn_v", "attn_output"}) {
      add_linear(prefix + part, hidden, hidden);
    }
    add_norm(prefix + "attn_output_norm");
    add_linear(prefix + "ffn_up", ffn, hidden);
    add_linear(prefix + "ffn_down", hidden, ffn);
    add_norm(prefix + "layer_output_norm");
  }

  void add_linear(const std::string& name, std::uint64_t rows, std::uint64_t cols) {
    add(name + ".weight", {rows, cols}, 1.5f / std::sqrt(static_cast<float>(cols)));
    add(name + ".bias", {rows}, 0.3f);
  }

  void add_norm(const std::string& name) {
    add(name + ".weight", {shape_.hidden}, 0.2f, 1.0f);
    add(name + ".bias", {shape_.hidden}, 0.2f);
  }

  void add(const std::string& name, std::vector<std::uint64_t> dims, float scale,
           float offset = 0) {
    std::size_t size = 1;
    for (const std::uint64_t dim : dims) size *= dim;
    std::vector<float> values(size);
    std::normal_distribution<float> normal(offset, scale);
    for (float& value : values) value = normal(random_);
    if (dims.size() == 2 && shape_.type != kTensorF32) return add_narrow(name, dims, values);
    spec_.tensors.push_back({name, std::move(dims), kTensorF32, float_bytes(values), {}, {}});
  }

  void add_narrow(const std::string& name, const std::vector<std::uint64_t>& dims,
                  const std::vector<float>& values) {
    std::string data;
    std::vector<float> scales;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (shape_.type == kTensorI8) {
        // Every row its own scale, coarse enough that no value is beyond the range.
        const std::size_t row = i / dims[1];
        if (i % dims[1] == 0) scales.push_back(8.0f / static_cast<float>(127 + row % 3));
        data += raw(static_cast<std::int8_t>(std::lround(values[i] / scales.back())));
      } else {
        std::uint32_t bits;
        std::memcpy(&bits, &values[i], sizeof(bits));
        data += raw(static_cast<std::uint16_t>(bits >> 16));
      }
    }
    spec_.tensors.push_back({name, dims, shape_.type, data, {}, {}});
    if (scales.empty()) return;
    spec_.tensors.push_back({name + ".scale", {dims[0]}, kTensorF32, float_bytes(scales), {}, {}});
  }

  ModelShape shape_;
  std::mt19937 random_;
  FileSpec spec_;
};

}  // namespace

KeySpec& FileSpec::key(std::string_view name) {
  return *find_by(keys, &KeySpec::key, name);
}

TensorSpec& FileSpec::tensor(std::string_view name) {
  return *find_by(tensors, &TensorSpec::name, name);
}

void FileSpec::erase_key(std::string_view name) {
  keys.erase(find_by(keys, &KeySpec::key, name));
}

void FileSpec::erase_tensor(std::string_view name) {
  tensors.erase(find_by(tensors, &TensorSpec::name, name));
}

FileSpec random_model(const ModelShape& shape) {
  return RandomModel(shape).make();
}

std::string float_bytes(std::span<const float> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

std::string build(const FileSpec& spec) {
  std::string out = spec.magic + raw(spec.version) +
                    raw(spec.tensor_count.value_or(spec.tensors.size())) +
                    raw(spec.key_count.value_or(spec.keys.size()));
  for (const KeySpec& key : spec.keys) out += raw_string(key.key) + raw(key.type) + key.value;
  std::string data;
  for (const TensorSpec& tensor : spec.tensors) {
    pad(data, spec.alignment);
    out += raw_string(tensor.name) +
           raw(tensor.rank.value_or(static_cast<std::uint32_t>(tensor.dims.size())));
    for (std::size_t i = tensor.dims.size(); i-- > 0;) out += raw(tensor.dims[i]);
    out += raw(tensor.type) + raw<std::uint64_t>(tensor.offset.value_or(data.size()));
    data += tensor.data;
  }
  pad(out, spec.alignment);
  out += data + spec.trailing;
  fix_content_hash(out);
  return out;
}

void fix_content_hash(std::string& file) {
  const std::string before = raw_string("splitee.content_hash") + raw(std::uint32_t{kU64});
  const std::size_t at = file.find(before);
  if (at == std::string::npos || at + before.size() + 8 > file.size()) return;
  const std::size_t offset = at + before.size();
  file.replace(offset, 8, raw(content_hash_zeroing(as_bytes(file), offset)));
}

std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace splitee::runtime::testing
