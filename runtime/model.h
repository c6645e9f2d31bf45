// A multi-exit encoder: packed weights, tokenizer tables, labels (file: runtime/model_format.h).
//
// open() reads and checks the whole file once, and keeps of it what every sample needs. Other
// layers' weights are read again, packed for the kernels, when a sample first comes to them, and
// word embeddings when a word first occurs: a device whose samples leave at layer 3 never pays
// memory or time for the layers behind. The file stays open, and what is read later is held against
// what was checked: a file that was cut off or changed in place meanwhile is an error, never a
// wrong answer and never a signal. (Replacing it by rename is harmless: this model stays the old
// one.)
//
// Arithmetic: f32 and f16 matrices are multiplied in fp32 (f16 takes four bytes a weight in memory
// then), bf16 ones as bfloat16 and i8 ones as int8 with activations quantised per token
// (kernels/kernels.h says how each is rounded).
//
// Thread rule: share it between threads and engines; what is read later is read once, under a lock.
// Ownership: weights are private memory.
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

// Weights of one Linear (out, in), packed for `kernel`.
struct Linear {
  std::size_t out = 0, in = 0;
  const kernels::Matmul* kernel = nullptr;
  const std::byte* packed = nullptr;
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

inline constexpr std::size_t kAllLayers = SIZE_MAX;

struct ModelOptions {
  // Everything in fp32, whatever the type in the file: what the file's values give without the
  // rounding of bf16 and int8 arithmetic. Four bytes a weight in memory.
  bool exact = false;
  // Layers that every sample needs, with the exit behind them: read while the file is checked, so
  // once instead of twice. kAllLayers, or more than there are: all.
  std::size_t preload = 0;
};

class Model {
 public:
  // Opens and checks the GGUF file at `path`, for `kernels`, which must outlive the Model. The
  // message names the path and the key, tensor or byte that is wrong. Lack of memory is kIo.
  static Result<std::shared_ptr<const Model>> open(const std::string& path,
                                                   const kernels::Kernels& kernels,
                                                   const ModelOptions& options = {});
  // The same from bytes in memory, all of it at once: they are not needed any more afterwards.
  // `path` is for messages only.
  static Result<std::shared_ptr<const Model>> from_bytes(const std::string& path,
                                                         std::span<const std::byte> bytes,
                                                         const kernels::Kernels& kernels,
                                                         const ModelOptions& options = {});
  Model(const Model&) = delete;
  ~Model();

  const ModelConfig& config() const { return config_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const kernels::Kernels& kernels() const { return *kernels_; }
  // Content hash of the file (key splitee.content_hash); what both ends of a link compare.
  std::uint64_t hash() const { return hash_; }
  const std::string& path() const { return path_; }

  // Reads what is not there yet: the layers after `from` up to `to`, and the exit behind layer `to`
  // if it has one and it is wanted. Engines call it; who wants the first sample to be as fast as
  // the others calls load_all() before.
  Status load(std::size_t from, std::size_t to, bool exit_wanted = true) const;
  Status load_all() const;

  // Loaded before; our bug otherwise.
  const EncoderLayer& layer(std::size_t layer) const;
  const ExitHead& exit(std::size_t index) const;
  // The temperature of an exit, loaded or not.
  float temperature(std::size_t index) const { return exits_[index].temperature; }

  // rows (ids.size(), hidden): word embeddings of ids within the table.
  Status gather_words(std::span<const std::int32_t> ids, std::span<float> rows) const;
  const std::vector<float>& position_embeddings() const { return position_; }
  const std::vector<float>& type_embeddings() const { return type_; }
  const LayerNorm& embedding_norm() const { return embedding_norm_; }

 private:
  friend class ModelLoader;
  struct Source;  // the file, and where everything is in it (runtime/model_loader.h)
  Model();
  // A part is a layer or an exit.
  template <class Part>
  Status load_parts(std::span<Part* const> parts) const;

  ModelConfig config_;
  std::unique_ptr<Tokenizer> tokenizer_;
  const kernels::Kernels* kernels_ = nullptr;
  std::uint64_t hash_ = 0;
  std::string path_;
  std::vector<float> position_, type_;
  LayerNorm embedding_norm_;
  // Filled by load(), part by part, under Source's lock.
  mutable std::vector<EncoderLayer> layers_;
  mutable std::vector<ExitHead> exits_;  // one per config().exit_layers
  std::unique_ptr<Source> source_;
};

}  // namespace splitee::runtime
