#include "runtime/model.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include "runtime/checked_size.h"
#include "runtime/dequantize.h"
#include "runtime/file.h"
#include "runtime/gguf.h"
#include "runtime/model_config.h"
#include "runtime/model_format.h"

namespace splitee::runtime {

// Fills a Model from a parsed file. Shapes are checked against the file before anything is
// allocated for them, so memory stays in proportion to the file.
class ModelLoader {
 public:
  ModelLoader(const Gguf& file, Model& model)
      : file_(file), model_(model), used_(file.tensors().size(), false) {}
  Status load(const kernels::Kernels& kernels);

 private:
  Status load_tokenizer();
  Status load_embeddings();
  Status load_layer(std::size_t layer);
  Status load_exit(std::size_t layer, float temperature);
  Status check_all_used() const;

  // The tensor `name`, of exactly this shape.
  Result<const GgufTensor*> take(const std::string& name, std::initializer_list<std::size_t> shape);
  Status load_vector(const std::string& name, std::size_t size, std::span<float> out);
  Status load_norm(const std::string& name, LayerNorm& norm);
  Status load_table(const std::string& name, std::size_t rows, std::vector<float>& table);
  // NAME.weight (linear.out, in) and NAME.bias; or, of several names, equal shares of the rows.
  Status load_linear(std::initializer_list<std::string> names, std::size_t out, std::size_t in,
                     Linear& linear);
  Status load_share(const std::string& name, std::size_t row, std::size_t rows, Linear& linear);
  // The scales of an I8 matrix; none for other types.
  Result<std::vector<float>> load_scales(const GgufTensor& matrix);
  Status read_rows(const GgufTensor& matrix, std::span<const float> scales, std::size_t row,
                   std::span<float> out) const;
  Status not_finite(std::string_view name) const;

  const Gguf& file_;
  Model& model_;
  std::vector<bool> used_;  // per tensor of the file
  std::vector<float> scratch_;
};

Status ModelLoader::load(const kernels::Kernels& kernels) {
  model_.kernels_ = &kernels;
  const Result<std::uint64_t> hash = check_content_hash(file_);
  if (!hash.ok()) return hash.status();
  model_.hash_ = *hash;
  Result<ModelConfig> config = read_config(file_);
  if (!config.ok()) return config.status();
  model_.config_ = std::move(*config);
  const Result<std::vector<float>> temperatures = read_temperatures(file_, model_.config_);
  if (!temperatures.ok()) return temperatures.status();
  if (Status s = load_tokenizer(); !s.ok()) return s;
  if (Status s = load_embeddings(); !s.ok()) return s;
  for (std::size_t layer = 1; layer <= model_.config_.layers; ++layer) {
    if (Status s = load_layer(layer); !s.ok()) return s;
  }
  for (std::size_t i = 0; i < temperatures->size(); ++i) {
    if (Status s = load_exit(model_.config_.exit_layers[i], (*temperatures)[i]); !s.ok()) return s;
  }
  return check_all_used();
}

Status ModelLoader::load_tokenizer() {
  Result<std::vector<std::string>> vocab = read_vocab(file_);
  if (!vocab.ok()) return vocab.status();
  const Result<TokenizerOptions> options = read_tokenizer_options(file_);
  if (!options.ok()) return options.status();
  Result<Tokenizer> tokenizer = Tokenizer::create(std::move(*vocab), *options);
  if (!tokenizer.ok()) {
    return file_.error(tokenizer.status().code(),
                       "key " + std::string(kKeyTokens) + ": " + tokenizer.status().message());
  }
  model_.tokenizer_ = std::make_unique<Tokenizer>(std::move(*tokenizer));
  return {};
}

Status ModelLoader::load_embeddings() {
  const ModelConfig& config = model_.config_;
  if (Status s = load_table("token_embd.weight", config.vocab, model_.word_); !s.ok()) return s;
  if (Status s = load_table("token_types.weight", config.token_types, model_.type_); !s.ok()) {
    return s;
  }
  if (Status s = load_table("position_embd.weight", config.max_tokens, model_.position_); !s.ok()) {
    return s;
  }
  return load_norm("token_embd_norm", model_.embedding_norm_);
}

Status ModelLoader::load_layer(std::size_t layer) {
  const std::size_t hidden = model_.config_.hidden, ffn = model_.config_.ffn;
  const std::string prefix = "blk." + std::to_string(layer - 1) + ".";
  EncoderLayer& to = model_.layers_.emplace_back();
  if (layer == 1) {
    const auto query = take(prefix + "attn_q.weight", {hidden, hidden});
    if (!query.ok()) return query.status();
    model_.config_.dtype = tensor_type_name((*query)->type);
  }
  if (Status s = load_linear({prefix + "attn_q", prefix + "attn_k", prefix + "attn_v"}, 3 * hidden,
                             hidden, to.qkv);
      !s.ok()) {
    return s;
  }
  if (Status s = load_linear({prefix + "attn_output"}, hidden, hidden, to.attention_output);
      !s.ok()) {
    return s;
  }
  if (Status s = load_norm(prefix + "attn_output_norm", to.attention_norm); !s.ok()) return s;
  if (Status s = load_linear({prefix + "ffn_up"}, ffn, hidden, to.up); !s.ok()) return s;
  if (Status s = load_linear({prefix + "ffn_down"}, hidden, ffn, to.down); !s.ok()) return s;
  return load_norm(prefix + "layer_output_norm", to.output_norm);
}

Status ModelLoader::load_exit(std::size_t layer, float temperature) {
  const std::size_t hidden = model_.config_.hidden;
  const std::string prefix = "splitee.exit." + std::to_string(layer) + ".";
  ExitHead& to = model_.exits_.emplace_back();
  to.temperature = temperature;
  if (Status s = load_linear({prefix + "pooler"}, hidden, hidden, to.pooler); !s.ok()) return s;
  return load_linear({prefix + "classifier"}, model_.config_.classes, hidden, to.classifier);
}

Status ModelLoader::check_all_used() const {
  const auto it = std::find(used_.begin(), used_.end(), false);
  if (it == used_.end()) return {};
  const auto index = static_cast<std::size_t>(it - used_.begin());
  return file_.error(Code::kUnsupported, "tensor " + std::string(file_.tensors()[index].name) +
                                             " has no place in this model");
}

Result<const GgufTensor*> ModelLoader::take(const std::string& name,
                                            std::initializer_list<std::size_t> shape) {
  const GgufTensor* tensor = file_.find_tensor(name);
  if (tensor == nullptr) return file_.error(Code::kCorrupt, "tensor " + name + " is missing");
  const auto found = std::span(tensor->dims).first(tensor->rank);
  if (!std::equal(found.begin(), found.end(), shape.begin(), shape.end())) {
    return file_.error(Code::kCorrupt, "tensor " + name + ": expected shape " +
                                           shape_text({shape.begin(), shape.size()}) + ", found " +
                                           shape_text(found));
  }
  used_[static_cast<std::size_t>(tensor - file_.tensors().data())] = true;
  return tensor;
}

Status ModelLoader::load_vector(const std::string& name, std::size_t size, std::span<float> out) {
  const Result<const GgufTensor*> tensor = take(name, {size});
  if (!tensor.ok()) return tensor.status();
  if ((*tensor)->type == TensorType::kI8) {
    return file_.error(Code::kUnsupported, "tensor " + name + " is a vector of i8");
  }
  to_floats((*tensor)->type, (*tensor)->data, 0, out);
  return all_finite(out) ? Status() : not_finite(name);
}

Status ModelLoader::load_norm(const std::string& name, LayerNorm& norm) {
  const std::size_t hidden = model_.config_.hidden;
  norm.gamma.resize(hidden);
  norm.beta.resize(hidden);
  if (Status s = load_vector(name + ".weight", hidden, norm.gamma); !s.ok()) return s;
  return load_vector(name + ".bias", hidden, norm.beta);
}

Status ModelLoader::load_table(const std::string& name, std::size_t rows,
                               std::vector<float>& table) {
  const std::size_t cols = model_.config_.hidden;
  const Result<const GgufTensor*> tensor = take(name, {rows, cols});
  if (!tensor.ok()) return tensor.status();
  const Result<std::vector<float>> scales = load_scales(**tensor);
  if (!scales.ok()) return scales.status();
  const CheckedSize size = CheckedSize(rows) * cols;
  if (!(size * sizeof(float)).ok()) {
    return file_.error(Code::kUnsupported, "tensor " + name + " is too large for this machine");
  }
  table.resize(size.value());
  return read_rows(**tensor, *scales, 0, table);
}

Status ModelLoader::load_linear(std::initializer_list<std::string> names, std::size_t out,
                                std::size_t in, Linear& linear) {
  const std::size_t rows = out / names.size();
  for (const std::string& name : names) {
    const Result<const GgufTensor*> weight = take(name + ".weight", {rows, in});
    if (!weight.ok()) return weight.status();
  }
  linear.out = out;
  linear.in = in;
  linear.bias.resize(out);
  linear.packed.resize(model_.kernels_->f32.packed_bytes(out, in) / sizeof(float));
  std::size_t row = 0;
  for (const std::string& name : names) {
    if (Status s = load_share(name, row, rows, linear); !s.ok()) return s;
    row += rows;
  }
  return {};
}

Status ModelLoader::load_share(const std::string& name, std::size_t row, std::size_t rows,
                               Linear& linear) {
  const auto bias = std::span(linear.bias).subspan(row, rows);
  if (Status s = load_vector(name + ".bias", rows, bias); !s.ok()) return s;
  const Result<const GgufTensor*> weight = take(name + ".weight", {rows, linear.in});
  if (!weight.ok()) return weight.status();
  const Result<std::vector<float>> scales = load_scales(**weight);
  if (!scales.ok()) return scales.status();
  // A few rows at a time: they stay in the cache between reading and packing.
  constexpr std::size_t kScratchFloats = 16384;
  const std::size_t step = std::max<std::size_t>(1, kScratchFloats / linear.in);
  scratch_.resize(std::max(scratch_.size(), step * linear.in));
  for (std::size_t done = 0; done < rows; done += step) {
    const std::size_t count = std::min(step, rows - done);
    const auto values = std::span(scratch_).first(count * linear.in);
    if (Status s = read_rows(**weight, *scales, done, values); !s.ok()) return s;
    model_.kernels_->f32.pack_rows(values.data(), nullptr, row + done, count, linear.out, linear.in,
                                   linear.packed.data());
  }
  return {};
}

Result<std::vector<float>> ModelLoader::load_scales(const GgufTensor& matrix) {
  std::vector<float> scales;
  if (matrix.type != TensorType::kI8) return scales;
  scales.resize(matrix.dims[0]);
  const std::string name = std::string(matrix.name) + std::string(kScaleSuffix);
  if (Status s = load_vector(name, scales.size(), scales); !s.ok()) return s;
  return scales;
}

Status ModelLoader::read_rows(const GgufTensor& matrix, std::span<const float> scales,
                              std::size_t row, std::span<float> out) const {
  const std::size_t cols = matrix.dims[1];
  to_floats(matrix.type, matrix.data, row * cols, out);
  if (!scales.empty()) {
    for (std::size_t i = 0; i < out.size(); i += cols, ++row) {
      for (float& value : out.subspan(i, cols)) value *= scales[row];
    }
  }
  return all_finite(out) ? Status() : not_finite(matrix.name);
}

Status ModelLoader::not_finite(std::string_view name) const {
  return file_.error(Code::kCorrupt,
                     "tensor " + std::string(name) + " holds a value that is not finite");
}

Result<std::shared_ptr<const Model>> Model::from_bytes(const std::string& path,
                                                       std::span<const std::byte> bytes,
                                                       const kernels::Kernels& kernels) {
  const Result<Gguf> file = Gguf::parse(path, bytes);
  if (!file.ok()) return file.status();
  const auto model = std::make_shared<Model>();
  model->path_ = path;
  if (Status s = ModelLoader(*file, *model).load(kernels); !s.ok()) return s;
  return std::shared_ptr<const Model>(model);
}

Result<std::shared_ptr<const Model>> Model::open(const std::string& path,
                                                 const kernels::Kernels& kernels) {
  const Result<MappedFile> file = MappedFile::open(path);
  if (!file.ok()) return file.status();
  return from_bytes(path, file->bytes(), kernels);
}

}  // namespace splitee::runtime
