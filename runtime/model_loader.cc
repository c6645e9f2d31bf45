#include "runtime/model_loader.h"

#include <algorithm>
#include <new>
#include <string_view>

#include "runtime/checked_size.h"
#include "runtime/dequantize.h"
#include "runtime/hash.h"
#include "runtime/model_config.h"
#include "runtime/model_format.h"
#include "runtime/thread_pool.h"

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

Result<std::shared_ptr<const Model>> ModelLoader::load(ModelBytes bytes,
                                                       const kernels::Kernels& kernels,
                                                       const ModelOptions& options) {
  std::vector<std::byte> header;
  Result<Gguf> file = read_header(bytes, header);
  if (!file.ok()) return file.status();
  const std::shared_ptr<Model> model(new Model);
  model->path_ = bytes.name();
  model->kernels_ = &kernels;
  ModelLoader loader(std::move(bytes), std::move(*file), *model);
  if (Status s = loader.load_all(options); !s.ok()) return s;
  if (Status s = loader.bytes_->check_same(header); !s.ok()) return s;
  return std::shared_ptr<const Model>(model);
}

ModelLoader::ModelLoader(ModelBytes bytes, Gguf file, Model& model)
    : bytes_(std::make_shared<ModelBytes>(std::move(bytes))),
      file_(std::move(file)),
      model_(model),
      used_(file_.tensors().size(), false) {}

Status ModelLoader::load_all(const ModelOptions& options) {
  const std::size_t threads = std::min<std::size_t>(2, loading_threads(bytes_->size()));
  Status content, tokenizer;
  ThreadPool(threads).share(2, 1, [&](std::size_t, std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      Status& status = i == 0 ? content : tokenizer;
      try {
        status = i == 0 ? load_and_check(options) : load_tokenizer();
      } catch (const std::bad_alloc&) {
        status = file_.error(Code::kIo, "not enough memory to load it");
      }
    }
  });
  return content.ok() ? tokenizer : content;
}

// Every byte of the file counts for its hash, and all values have to be finite: who finds something
// else wrong with a damaged file hears of the damage.
Status ModelLoader::load_and_check(const ModelOptions& options) {
  const Result<HashPlace> expected = find_content_hash(file_);
  if (!expected.ok()) return expected.status();
  FiniteCheck finite(file_.tensors());
  bytes_->watch(
      [&](std::size_t offset, std::span<const std::byte> block) { finite.look(offset, block); });
  const Status weights = load_weights(options);
  const Result<std::uint64_t> found = bytes_->check(expected->offset);
  if (!found.ok()) return found.status();
  if (*found != expected->hash) {
    return file_.error(Code::kCorrupt, "the content's hash is " + hash_to_string(*found) +
                                           ", not " + hash_to_string(expected->hash) + " as key " +
                                           std::string(kKeyContentHash) +
                                           " says: the file was damaged or changed");
  }
  model_.hash_ = *found;
  if (finite.first_bad() == file_.tensors().size()) return weights;
  return file_.error(Code::kCorrupt, "tensor " +
                                         std::string(file_.tensors()[finite.first_bad()].name) +
                                         " holds a value that is not finite");
}

Status ModelLoader::load_weights(const ModelOptions& options) {
  Result<ModelConfig> config = read_config(file_);
  if (!config.ok()) return config.status();
  model_.config_ = std::move(*config);
  const std::size_t layers = model_.config_.layers, exits = model_.config_.exit_layers.size();
  const Result<std::vector<float>> temperatures = read_temperatures(file_, model_.config_);
  if (!temperatures.ok()) return temperatures.status();
  Result<WordTable> words = load_embeddings();
  if (!words.ok()) return words.status();
  model_.layers_.resize(layers);
  model_.exits_.resize(exits);
  std::vector<Model::Source::Part> layer_parts(layers), exit_parts(exits);
  for (std::size_t i = 0; i < layers; ++i) {
    if (Status s = plan_layer(i, layer_parts[i].plan); !s.ok()) return s;
  }
  for (std::size_t i = 0; i < exits; ++i) {
    model_.exits_[i].temperature = (*temperatures)[i];
    if (Status s = plan_exit(i, exit_parts[i].plan); !s.ok()) return s;
  }
  if (Status s = check_all_used(); !s.ok()) return s;
  model_.source_ = std::make_unique<Model::Source>(bytes_, std::move(*words),
                                                   std::move(layer_parts), std::move(exit_parts));
  if (Status s = place_weights(options); !s.ok()) return s;
  return model_.load(0, std::min(options.preload, layers));
}

// Arithmetic and places of the weights. Layers lie together: those that samples run through leave
// no gaps, which huge pages would fill.
Status ModelLoader::place_weights(const ModelOptions& options) {
  Model::Source& source = *model_.source_;
  CheckedSize total = 0;
  const auto place = [&](Model::Source::Part& part) {
    choose_kernels(part.plan, *model_.kernels_, options.exact);
    if (total.ok()) part.packed_offset = total.value();
    total = total + packed_bytes(part.plan);
  };
  for (Model::Source::Part& layer : source.layers) place(layer);
  for (Model::Source::Part& exit : source.exits) place(exit);
  if (!total.ok()) return file_.error(Code::kUnsupported, "too large for this machine");
  Result<PageMemory> packed = PageMemory::allocate(total.value(), PageMemory::Use::kDense);
  if (!packed.ok()) return file_.error(packed.status().code(), packed.status().message());
  source.packed = std::move(*packed);
  return {};
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

Result<WordTable> ModelLoader::load_embeddings() {
  const ModelConfig& config = model_.config_;
  const Result<TensorPlace> words = take("token_embd.weight", {config.vocab, config.hidden});
  if (!words.ok()) return words.status();
  std::vector<float> scales;
  if (Status s = load_scales(*words, scales); !s.ok()) return s;
  if (Status s = load_table("token_types.weight", config.token_types, model_.type_); !s.ok()) {
    return s;
  }
  if (Status s = load_table("position_embd.weight", config.max_tokens, model_.position_); !s.ok()) {
    return s;
  }
  PartPlan norm;
  if (Status s = plan_norm("token_embd_norm", model_.embedding_norm_, norm); !s.ok()) return s;
  ModelReader reader(*bytes_);
  for (const VectorPlan& vector : norm.vectors) {
    if (Status s = read_floats(reader, vector.tensor, *vector.to); !s.ok()) return s;
  }
  Result<WordTable> table = WordTable::create(*words, std::move(scales));
  if (!table.ok()) return file_.error(table.status().code(), table.status().message());
  return table;
}

Status ModelLoader::load_table(const std::string& name, std::size_t rows,
                               std::vector<float>& table) {
  const std::size_t cols = model_.config_.hidden;
  const Result<TensorPlace> tensor = take(name, {rows, cols});
  if (!tensor.ok()) return tensor.status();
  std::vector<float> scales;
  if (Status s = load_scales(*tensor, scales); !s.ok()) return s;
  const CheckedSize size = CheckedSize(rows) * cols;
  if (!(size * sizeof(float)).ok()) {
    return file_.error(Code::kUnsupported, "tensor " + name + " is too large for this machine");
  }
  table.resize(size.value());
  ModelReader reader(*bytes_);
  if (Status s = read_floats(reader, *tensor, table); !s.ok()) return s;
  scale_rows(table, scales);
  return {};
}

Status ModelLoader::load_scales(const TensorPlace& matrix, std::vector<float>& scales) {
  if (matrix.type != TensorType::kI8) return {};
  const Result<TensorPlace> place =
      take_vector(matrix.name + std::string(kScaleSuffix), matrix.rows);
  if (!place.ok()) return place.status();
  scales.resize(matrix.rows);
  ModelReader reader(*bytes_);
  return read_scales(reader, matrix, *place, scales);
}

Status ModelLoader::plan_layer(std::size_t index, PartPlan& plan) {
  const std::size_t hidden = model_.config_.hidden, ffn = model_.config_.ffn;
  const std::string prefix = "blk." + std::to_string(index) + ".";
  EncoderLayer& to = model_.layers_[index];
  if (Status s = plan_linear({prefix + "attn_q", prefix + "attn_k", prefix + "attn_v"}, 3 * hidden,
                             hidden, to.qkv, plan);
      !s.ok()) {
    return s;
  }
  if (index == 0) {
    model_.config_.dtype = tensor_type_name(plan.linears.front().matrices.front().type);
  }
  if (Status s = plan_linear({prefix + "attn_output"}, hidden, hidden, to.attention_output, plan);
      !s.ok()) {
    return s;
  }
  if (Status s = plan_norm(prefix + "attn_output_norm", to.attention_norm, plan); !s.ok()) return s;
  if (Status s = plan_linear({prefix + "ffn_up"}, ffn, hidden, to.up, plan); !s.ok()) return s;
  if (Status s = plan_linear({prefix + "ffn_down"}, hidden, ffn, to.down, plan); !s.ok()) return s;
  return plan_norm(prefix + "layer_output_norm", to.output_norm, plan);
}

Status ModelLoader::plan_exit(std::size_t index, PartPlan& plan) {
  const ModelConfig& config = model_.config_;
  const std::string prefix = "splitee.exit." + std::to_string(config.exit_layers[index]) + ".";
  ExitHead& to = model_.exits_[index];
  if (Status s = plan_linear({prefix + "pooler"}, config.hidden, config.hidden, to.pooler, plan);
      !s.ok()) {
    return s;
  }
  return plan_linear({prefix + "classifier"}, config.classes, config.hidden, to.classifier, plan);
}

Status ModelLoader::check_all_used() const {
  const auto it = std::find(used_.begin(), used_.end(), false);
  if (it == used_.end()) return {};
  const auto index = static_cast<std::size_t>(it - used_.begin());
  return file_.error(Code::kUnsupported, "tensor " + std::string(file_.tensors()[index].name) +
                                             " has no place in this model");
}

Result<TensorPlace> ModelLoader::take(const std::string& name,
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
  const std::size_t cols = tensor->rank == 2 ? tensor->dims[1] : 1;
  return TensorPlace{name, tensor->type, tensor->dims[0], cols, tensor->offset, tensor->size_bytes};
}

Result<TensorPlace> ModelLoader::take_vector(const std::string& name, std::size_t size) {
  Result<TensorPlace> tensor = take(name, {size});
  if (tensor.ok() && tensor->type == TensorType::kI8) {
    return file_.error(Code::kUnsupported, "tensor " + name + " is a vector of i8");
  }
  return tensor;
}

Status ModelLoader::plan_vector(const std::string& name, std::size_t size, std::size_t first,
                                std::vector<float>& to, PartPlan& plan) {
  const Result<TensorPlace> tensor = take_vector(name, size);
  if (!tensor.ok()) return tensor.status();
  to.resize(std::max(to.size(), first + size));
  plan.vectors.push_back({*tensor, &to, first});
  return {};
}

Status ModelLoader::plan_norm(const std::string& name, LayerNorm& norm, PartPlan& plan) {
  const std::size_t hidden = model_.config_.hidden;
  if (Status s = plan_vector(name + ".weight", hidden, 0, norm.gamma, plan); !s.ok()) return s;
  return plan_vector(name + ".bias", hidden, 0, norm.beta, plan);
}

Status ModelLoader::plan_linear(std::initializer_list<std::string> names, std::size_t out,
                                std::size_t in, Linear& linear, PartPlan& plan) {
  const std::size_t rows = out / names.size();
  linear.out = out;
  linear.in = in;
  LinearPlan parts{&linear, {}, {}};
  std::size_t first = 0;
  for (const std::string& name : names) {
    const Result<TensorPlace> matrix = take(name + ".weight", {rows, in});
    if (!matrix.ok()) return matrix.status();
    parts.matrices.push_back(*matrix);
    parts.scales.emplace_back();
    if (matrix->type == TensorType::kI8) {
      const Result<TensorPlace> scales =
          take_vector(matrix->name + std::string(kScaleSuffix), rows);
      if (!scales.ok()) return scales.status();
      parts.scales.back() = *scales;
    }
    if (Status s = plan_vector(name + ".bias", rows, first, linear.bias, plan); !s.ok()) return s;
    first += rows;
  }
  plan.linears.push_back(std::move(parts));
  return {};
}

}  // namespace splitee::runtime
