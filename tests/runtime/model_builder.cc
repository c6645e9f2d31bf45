#include "tests/runtime/model_builder.h"

#include <algorithm>
#include <random>
#include <stdexcept>

#include "base/hash.h"

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

constexpr std::size_t kSummedBytes = 65536;

// Tensors with random values.
class RandomTensors {
 public:
  RandomTensors(std::uint32_t type, std::uint32_t seed) : type_(type), random_(seed) {}

 protected:
  void add_linear(const std::string& name, std::uint64_t rows, std::uint64_t cols) {
    add(name + ".weight", {rows, cols}, 1.5f / std::sqrt(static_cast<float>(cols)));
    add(name + ".bias", {rows}, 0.3f);
  }
  void add(const std::string& name, std::vector<std::uint64_t> dims, float scale,
           float offset = 0) {
    std::size_t size = 1;
    for (const std::uint64_t dim : dims) size *= dim;
    std::vector<float> values(size);
    std::normal_distribution<float> normal(offset, scale);
    for (float& value : values) value = normal(random_);
    if (dims.size() == 2 && type_ != kTensorF32) return add_narrow(name, dims, values);
    spec_.tensors.push_back({name, std::move(dims), kTensorF32, float_bytes(values), {}, {}});
  }

  void add_narrow(const std::string& name, const std::vector<std::uint64_t>& dims,
                  const std::vector<float>& values) {
    std::string data;
    std::vector<float> scales;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (type_ == kTensorI8) {
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
    spec_.tensors.push_back({name, dims, type_, data, {}, {}});
    if (scales.empty()) return;
    spec_.tensors.push_back({name + ".scale", {dims[0]}, kTensorF32, float_bytes(scales), {}, {}});
  }

  void add_u32(const char* key, std::size_t value) {
    spec_.keys.push_back({key, kU32, raw(static_cast<std::uint32_t>(value))});
  }
  void add_u32_array(const char* key, const std::vector<std::uint32_t>& values) {
    std::string bytes;
    for (const std::uint32_t value : values) bytes += raw(value);
    spec_.keys.push_back({key, kArray, raw_array(kU32, values.size(), bytes)});
  }
  void add_exits(const std::vector<std::uint32_t>& exit_layers, std::size_t classes) {
    spec_.keys.push_back({"splitee.content_hash", kU64, raw<std::uint64_t>(0)});
    add_u32_array("splitee.exit_layers", exit_layers);
    std::string labels;
    for (std::size_t c = 0; c < classes; ++c) labels += raw_string("c" + std::to_string(c));
    spec_.keys.push_back({"splitee.labels", kArray, raw_array(kString, classes, labels)});
  }

  std::uint32_t type_;
  std::mt19937 random_;
  FileSpec spec_;
};

class RandomModel : private RandomTensors {
 public:
  explicit RandomModel(const ModelShape& shape)
      : RandomTensors(shape.type, shape.seed), shape_(shape) {}

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
    spec_.keys.push_back({"general.architecture", kString, raw_string("bert")});
    add_u32("general.alignment", 32);
    add_u32("bert.block_count", shape_.layers);
    add_u32("bert.context_length", shape_.positions);
    add_u32("bert.embedding_length", shape_.hidden);
    add_u32("bert.feed_forward_length", shape_.ffn);
    add_u32("bert.attention.head_count", shape_.heads);
    if (shape_.mean_exits) add_u32("bert.pooling_type", 1);
    spec_.keys.push_back({"bert.attention.layer_norm_epsilon", kF32, raw(1e-12f)});
    add_vocab();
    add_u32("tokenizer.ggml.token_type_count", shape_.types);
    add_exits(shape_.exit_layers, shape_.classes);
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

  void add_norm(const std::string& name) {
    add(name + ".weight", {shape_.hidden}, 0.2f, 1.0f);
    add(name + ".bias", {shape_.hidden}, 0.2f);
  }

  ModelShape shape_;
};

class RandomNumbers : private RandomTensors {
 public:
  explicit RandomNumbers(const NumbersShape& shape)
      : RandomTensors(shape.type, shape.seed), shape_(shape) {}

  FileSpec make() {
    spec_.keys.push_back({"general.architecture", kString, raw_string("splitee-numbers")});
    add_u32("general.alignment", 32);
    add_u32("numbers.block_count", shape_.widths.size());
    add_u32("numbers.feature_count", shape_.features);
    add_u32_array("numbers.widths", shape_.widths);
    add_u32_array("numbers.residual", shape_.residual);
    spec_.keys.push_back(
        {"numbers.activation", kString, raw_string(shape_.gelu ? "gelu" : "relu")});
    add_exits(shape_.exit_layers, shape_.classes);
    add("input.mean", {shape_.features}, 0.5f);
    add("input.std", {shape_.features}, 0.05f, 1.0f);
    for (std::size_t i = 0; i < shape_.widths.size(); ++i) {
      add_linear("blk." + std::to_string(i) + ".dense", shape_.widths[i],
                 i == 0 ? shape_.features : shape_.widths[i - 1]);
    }
    for (const std::uint32_t layer : shape_.exit_layers) {
      add_linear("splitee.exit." + std::to_string(layer) + ".classifier", shape_.classes,
                 shape_.widths[layer - 1]);
    }
    return std::move(spec_);
  }

 private:
  NumbersShape shape_;
};

class RandomConv : private RandomTensors {
 public:
  explicit RandomConv(const ConvShape& shape)
      : RandomTensors(shape.type, shape.seed), shape_(shape) {}

  FileSpec make() {
    add_keys();
    const std::uint32_t window = shape_.stem_kernel * shape_.stem_kernel;
    add_linear("stem", shape_.stem_channels, std::uint64_t{3} * window);
    std::uint32_t in = shape_.stem_channels;
    for (std::size_t i = 0; i < shape_.channels.size(); ++i) {
      add_block("blk." + std::to_string(i) + ".", i, in);
      in = shape_.channels[i];
    }
    for (std::size_t i = 0; i < shape_.exit_layers.size(); ++i) {
      const std::uint32_t layer = shape_.exit_layers[i], own = shape_.exit_channels[i];
      const std::string prefix = "splitee.exit." + std::to_string(layer) + ".";
      const std::uint32_t channels = shape_.channels[layer - 1];
      if (own != 0) add_linear(prefix + "conv", own, channels);
      add_linear(prefix + "classifier", shape_.classes, own != 0 ? own : channels);
    }
    return std::move(spec_);
  }

 private:
  void add_string(const char* key, const std::string& word) {
    spec_.keys.push_back({key, kString, raw_string(word)});
  }
  void add_floats(const char* key, std::vector<float> values) {
    spec_.keys.push_back({key, kArray, raw_array(kF32, values.size(), float_bytes(values))});
  }
  void add_keys() {
    add_string("general.architecture", "splitee-conv");
    add_u32("general.alignment", 32);
    add_u32("conv.input_height", shape_.height);
    add_u32("conv.input_width", shape_.width);
    add_floats("conv.mean", {0.5f, 0.4f, 0.3f});
    add_floats("conv.std", {0.2f, 0.25f, 0.3f});
    add_u32("conv.stem_kernel", shape_.stem_kernel);
    add_u32("conv.stem_stride", shape_.stem_stride);
    add_u32("conv.stem_channels", shape_.stem_channels);
    add_u32("conv.stem_pool", shape_.stem_pool);
    add_string("conv.activation", shape_.activation);
    add_string("conv.block", shape_.inverted ? "inverted" : "basic");
    if (!shape_.projection) add_string("conv.shortcut", "pad");
    add_u32("conv.block_count", shape_.channels.size());
    add_u32_array("conv.channels", shape_.channels);
    add_u32_array("conv.strides", shape_.strides);
    if (shape_.inverted) add_u32_array("conv.hidden", shape_.hidden);
    add_u32_array("conv.exit_channels", shape_.exit_channels);
    add_exits(shape_.exit_layers, shape_.classes);
  }
  void add_block(const std::string& prefix, std::size_t index, std::uint64_t in) {
    const std::uint64_t out = shape_.channels[index];
    if (shape_.inverted) {
      const std::uint64_t hidden = shape_.hidden[index];
      if (hidden != in) add_linear(prefix + "expand", hidden, in);
      add(prefix + "depthwise.weight", {9 * hidden}, 0.4f);
      add(prefix + "depthwise.bias", {hidden}, 0.2f);
      return add_linear(prefix + "project", out, hidden);
    }
    add_linear(prefix + "conv1", out, 9 * in);
    add_linear(prefix + "conv2", out, 9 * out);
    const bool changes = shape_.strides[index] != 1 || in != out;
    if (changes && shape_.projection) add_linear(prefix + "shortcut", out, in);
  }

  ConvShape shape_;
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

FileSpec random_numbers(const NumbersShape& shape) {
  return RandomNumbers(shape).make();
}

FileSpec random_conv(const ConvShape& shape) {
  return RandomConv(shape).make();
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
  const std::size_t data_start = out.size();
  out += data + spec.trailing;
  fix_block_sums(out, data_start);
  fix_content_hash(out);
  return out;
}

void add_block_sums(FileSpec& spec, std::size_t more) {
  std::size_t bytes = spec.trailing.size();
  for (const TensorSpec& tensor : spec.tensors) {
    bytes = (bytes + spec.alignment - 1) / spec.alignment * spec.alignment + tensor.data.size();
  }
  const std::size_t count = (bytes + kSummedBytes - 1) / kSummedBytes + more;
  spec.keys.push_back(
      {"splitee.block_sums", kArray, raw_array(kU64, count, std::string(8 * count, '\0'))});
}

void fix_block_sums(std::string& file, std::size_t data_start) {
  const std::string before =
      raw_string("splitee.block_sums") + raw(std::uint32_t{kArray}) + raw(std::uint32_t{kU64});
  const std::size_t at = file.find(before);
  if (at == std::string::npos || at + before.size() + 8 > data_start) return;
  std::size_t entry = at + before.size() + 8;
  std::uint64_t count;
  std::memcpy(&count, file.data() + entry - 8, sizeof(count));
  const std::size_t end = entry + 8 * std::min<std::uint64_t>(count, (data_start - entry) / 8);
  for (std::size_t begin = (data_start + kSummedBytes - 1) / kSummedBytes * kSummedBytes;
       begin < file.size() && entry < end; begin += kSummedBytes, entry += 8) {
    const std::string block = file.substr(begin, kSummedBytes);
    file.replace(entry, 8, raw(content_hash_terms(as_bytes(block), begin / 8)));
  }
}

void fix_content_hash(std::string& file) {
  const std::string before = raw_string("splitee.content_hash") + raw(std::uint32_t{kU64});
  const std::size_t at = file.find(before);
  if (at == std::string::npos || at + before.size() + 8 > file.size()) return;
  const std::size_t offset = at + before.size();
  file.replace(offset, 8, raw(content_hash_zeroing(as_bytes(file), offset)));
}

}  // namespace splitee::runtime::testing
