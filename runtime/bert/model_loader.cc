#include "runtime/bert/model_loader.h"

#include <algorithm>
#include <new>
#include <string>

#include "runtime/bert/model_config.h"
#include "runtime/bert/model_format.h"
#include "runtime/bert/text_input.h"
#include "runtime/file/model_keys.h"
#include "runtime/thread_pool.h"
#include "runtime/weights/file_check.h"

namespace splitee::runtime {

Result<std::shared_ptr<const BertNetwork>> ModelLoader::load(ModelFile file,
                                                             const kernels::Kernels& kernels,
                                                             const ModelOptions& options) {
  const std::shared_ptr<BertNetwork> model(new BertNetwork);
  model->path_ = file.bytes.name();
  model->kernels_ = &kernels;
  ModelLoader loader(std::move(file.bytes), std::move(file.gguf), *model);
  if (Status s = loader.load_all(options); !s.ok()) return s;
  if (Status s = loader.bytes_->check_same(file.header); !s.ok()) return s;
  loader.describe();
  return std::shared_ptr<const BertNetwork>(model);
}

ModelLoader::ModelLoader(ModelBytes bytes, Gguf file, BertNetwork& model)
    : bytes_(std::make_shared<ModelBytes>(std::move(bytes))),
      file_(std::move(file)),
      model_(model),
      planner_(file_, *bytes_) {}

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

Status ModelLoader::load_and_check(const ModelOptions& options) {
  const HashClaim claim = is_llama_classifier(file_) ? HashClaim::kNone : HashClaim::kRequired;
  const Result<std::uint64_t> hash =
      check_file(*bytes_, file_, claim, options.check_whole, [&] { return load_weights(options); });
  if (!hash.ok()) return hash.status();
  model_.hash_ = *hash;
  return {};
}

Status ModelLoader::load_weights(const ModelOptions& options) {
  Result<ModelConfig> config = read_config(file_, model_.info_);
  if (!config.ok()) return config.status();
  model_.config_ = std::move(*config);
  const std::size_t layers = model_.config_.layers, exits = model_.config_.exit_layers.size();
  Result<WordTable> words = load_embeddings();
  if (!words.ok()) return words.status();
  model_.layers_.resize(layers);
  model_.exits_.resize(exits);
  std::vector<PartPlan> plans(layers + exits);
  for (std::size_t i = 0; i < layers; ++i) {
    if (Status s = plan_layer(i, plans[i]); !s.ok()) return s;
  }
  for (std::size_t i = 0; i < exits; ++i) {
    model_.exits_[i].temperature = model_.info_.temperatures[i];
    if (Status s = plan_exit(i, plans[layers + i]); !s.ok()) return s;
  }
  if (Status s = planner_.check_all_used(); !s.ok()) return s;
  auto parts = WeightParts::create(bytes_, file_, *model_.kernels_, std::move(plans),
                                   model_.config_.exit_layers, options.exact);
  if (!parts.ok()) return parts.status();
  model_.source_ = std::make_unique<BertNetwork::Source>(
      BertNetwork::Source{bytes_, std::move(*words), std::move(*parts)});
  return model_.load(0, std::min(options.preload, layers));
}

Status ModelLoader::load_tokenizer() {
  Result<std::vector<std::string>> vocab = read_vocab(file_);
  if (!vocab.ok()) return vocab.status();
  const Result<TokenizerOptions> options = read_tokenizer_options(file_);
  if (!options.ok()) return options.status();
  Result<Tokenizer> tokenizer = Tokenizer::create(*vocab, *options);
  if (!tokenizer.ok()) {
    return file_.error(tokenizer.status().code(),
                       "key " + std::string(kKeyTokens) + ": " + tokenizer.status().message());
  }
  model_.tokenizer_ = std::make_unique<Tokenizer>(std::move(*tokenizer));
  return {};
}

Result<WordTable> ModelLoader::load_embeddings() {
  const ModelConfig& config = model_.config_;
  const Result<TensorPlace> words =
      planner_.take("token_embd.weight", {config.vocab, config.hidden});
  if (!words.ok()) return words.status();
  std::vector<float> scales;
  if (Status s = planner_.read_scales_of(*words, scales); !s.ok()) return s;
  if (Status s = planner_.read_table("token_types.weight", config.token_types, config.hidden,
                                     model_.type_);
      !s.ok()) {
    return s;
  }
  if (Status s = planner_.read_table("position_embd.weight", config.max_tokens, config.hidden,
                                     model_.position_);
      !s.ok()) {
    return s;
  }
  PartPlan norm;
  if (Status s = planner_.plan_norm("token_embd_norm", config.hidden, model_.embedding_norm_, norm);
      !s.ok())
    return s;
  ModelReader reader(*bytes_);
  for (const VectorPlan& vector : norm.vectors) {
    if (Status s = read_floats(reader, vector.tensor, *vector.to); !s.ok()) return s;
  }
  Result<WordTable> table = WordTable::create(*words, std::move(scales));
  if (!table.ok()) return file_.error(table.status().code(), table.status().message());
  return table;
}

Status ModelLoader::plan_layer(std::size_t index, PartPlan& plan) {
  const std::size_t hidden = model_.config_.hidden, ffn = model_.config_.ffn;
  const std::string prefix = "blk." + std::to_string(index) + ".";
  EncoderLayer& to = model_.layers_[index];
  if (Status s = planner_.plan_linear({prefix + "attn_q", prefix + "attn_k", prefix + "attn_v"},
                                      prefix + "attn_qkv", 3 * hidden, hidden, to.qkv, plan);
      !s.ok()) {
    return s;
  }
  if (index == 0) {
    model_.config_.dtype = tensor_type_name(plan.linears.front().matrices.front().type);
  }
  const auto plan_one = [&](const std::string& name, std::size_t out, std::size_t in,
                            Linear& linear) {
    return planner_.plan_linear({prefix + name}, prefix + name, out, in, linear, plan);
  };
  const auto plan_norm = [&](const std::string& name, LayerNorm& norm) {
    return planner_.plan_norm(prefix + name, hidden, norm, plan);
  };
  if (Status s = plan_one("attn_output", hidden, hidden, to.attention_output); !s.ok()) return s;
  if (Status s = plan_norm("attn_output_norm", to.attention_norm); !s.ok()) return s;
  if (Status s = plan_one("ffn_up", ffn, hidden, to.up); !s.ok()) return s;
  if (Status s = plan_one("ffn_down", hidden, ffn, to.down); !s.ok()) return s;
  return plan_norm("layer_output_norm", to.output_norm);
}

Status ModelLoader::plan_exit(std::size_t index, PartPlan& plan) {
  const ModelConfig& config = model_.config_;
  const bool llama = is_llama_classifier(file_);
  const std::string prefix =
      llama ? "cls" : "splitee.exit." + std::to_string(config.exit_layers[index]) + ".";
  ExitHead& to = model_.exits_[index];
  if (config.pooler) {
    const std::string pooler = llama ? prefix : prefix + "pooler";
    if (Status s =
            planner_.plan_linear({pooler}, pooler, config.hidden, config.hidden, to.pooler, plan);
        !s.ok()) {
      return s;
    }
  }
  const std::string classifier = prefix + (llama ? ".output" : "classifier");
  return planner_.plan_linear({classifier}, classifier, config.classes, config.hidden,
                              to.classifier, plan);
}

// What the rest of the program sees of the model.
void ModelLoader::describe() {
  const ModelConfig& config = model_.config_;
  NetworkInfo& info = model_.info_;
  info.architecture = "bert";
  info.input = InputKind::kText;
  info.unit = "tokens";
  info.max_length = config.max_tokens;
  info.pairs = config.token_types > 1;
  info.unit_input_bytes = kBytesPerToken;
  const auto hidden = static_cast<double>(config.hidden), ffn = static_cast<double>(config.ffn);
  LayerSizes layer;
  layer.cols = config.hidden;
  info.sizes.assign(1, layer);  // the embedding's operations count for nothing
  layer.unit_operations = 2 * (4 * hidden * hidden + 2 * hidden * ffn);
  layer.pair_operations = 4 * hidden;
  for (std::size_t i = 0; i < config.layers; ++i) {
    layer.weight_bytes = model_.source_->parts->bytes_of(i);
    info.sizes.push_back(layer);
  }
  info.dtype = config.dtype;
  info.more_sizes = {{"hidden", config.hidden}, {"heads", config.heads},
                     {"ffn", config.ffn},       {"max_tokens", config.max_tokens},
                     {"vocab", config.vocab},   {"token_types", config.token_types}};
  info.more_numbers = {{"layer_norm_epsilon", static_cast<double>(config.layer_norm_epsilon)}};
}

}  // namespace splitee::runtime
