// A multi-exit encoder: packed weights, tokenizer tables, labels (file: runtime/model_format.h).
// Thread rule: immutable after open(); share it between threads and engines.
// Ownership: everything is copied out of the file, which is not needed any more after open().
//
// Layers are 1-based everywhere: layer 0 is the embedding output, exit i reads layer i.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "runtime/status.h"
#include "runtime/tokenizer.h"

namespace splitee::runtime {

struct ModelConfig {
  std::size_t layers = 0;
  std::size_t hidden = 0;
  std::size_t heads = 0;
  std::size_t ffn = 0;
  std::size_t max_tokens = 0;  // positions
  std::size_t vocab = 0;
  std::size_t token_types = 0;
  std::size_t classes = 0;
  float layer_norm_epsilon = 0;
  std::vector<std::size_t> exit_layers;  // ascending, 1-based, the last one is `layers`
  std::vector<std::string> labels;       // classes names
  double alpha = 0;                      // suggested exit threshold; 0 where the file has none
  std::vector<double> exit_alphas;       // thresholds per exit; empty where the file has none
  std::string dtype;                     // of the first layer's weights: f32, f16, bf16 or i8
};

// Weights of one Linear, packed for the model's kernel target. (out, in).
struct Linear {
  std::size_t out = 0, in = 0;
  std::vector<float> packed;
  std::vector<float> bias;
};

struct LayerNorm {
  std::vector<float> gamma, beta;
};

struct EncoderLayer {
  Linear qkv;  // (3 * hidden, hidden): query, key, value one after the other
  Linear attention_output;
  LayerNorm attention_norm;
  Linear up, down;
  LayerNorm output_norm;
};

// ElasticBERT's exit (Liu et al. 2022): pooler tanh(W x_cls + b), then a classifier.
struct ExitHead {
  Linear pooler;
  Linear classifier;
  float temperature = 1.0f;  // logits are divided by it (Guo et al. 2017)
};

class Model {
 public:
  // Opens and checks the GGUF file at `path` and packs it for `kernels`, which must outlive the
  // Model. The message names the path and the key, tensor or byte that is wrong. A file that
  // another process cuts off while it is being opened ends this process (SIGBUS).
  static Result<std::shared_ptr<const Model>> open(const std::string& path,
                                                   const kernels::Kernels& kernels);
  // The same from bytes in memory; `path` is for messages only.
  static Result<std::shared_ptr<const Model>> from_bytes(const std::string& path,
                                                         std::span<const std::byte> bytes,
                                                         const kernels::Kernels& kernels);

  const ModelConfig& config() const { return config_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const kernels::Kernels& kernels() const { return *kernels_; }
  // Content hash of the file (key splitee.content_hash); what both ends of a link compare.
  std::uint64_t hash() const { return hash_; }
  const std::string& path() const { return path_; }

  const std::vector<float>& word_embeddings() const { return word_; }
  const std::vector<float>& position_embeddings() const { return position_; }
  const std::vector<float>& type_embeddings() const { return type_; }
  const LayerNorm& embedding_norm() const { return embedding_norm_; }
  const EncoderLayer& layer(std::size_t layer) const { return layers_[layer - 1]; }
  const ExitHead& exit(std::size_t index) const { return exits_[index]; }

 private:
  friend class ModelLoader;
  ModelConfig config_;
  std::unique_ptr<Tokenizer> tokenizer_;
  const kernels::Kernels* kernels_ = nullptr;
  std::uint64_t hash_ = 0;
  std::string path_;
  std::vector<float> word_, position_, type_;
  LayerNorm embedding_norm_;
  std::vector<EncoderLayer> layers_;
  std::vector<ExitHead> exits_;  // one per config().exit_layers
};

}  // namespace splitee::runtime
