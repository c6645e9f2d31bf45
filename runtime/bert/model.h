// A multi-exit encoder: packed weights, tokenizer tables, labels (file:
// runtime/bert/model_format.h).
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

#include "base/status.h"
#include "kernels/kernels.h"
#include "runtime/file/model_bytes.h"
#include "runtime/network.h"
#include "runtime/text/tokenizer.h"
#include "runtime/weights/linear.h"

namespace splitee::runtime {

// What an exit reads of its layer's output.
enum class Pooling {
  kFirstToken,  // the first row: the others need not be computed for it
  kMean         // the mean of all rows
};

// Between an exit's pooler and its classifier.
enum class PoolerActivation { kTanh, kRelu, kGelu };

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
  Pooling pooling = Pooling::kFirstToken;
  kernels::Epilogue activation = kernels::Epilogue::kGelu;  // of the feed-forward layers
  bool pooler = true;                                       // exits have one
  PoolerActivation pooler_activation = PoolerActivation::kTanh;
  Output output = Output::kClasses;
  std::vector<std::size_t> exit_layers;  // ascending, 1-based, the last one is `layers`
  std::string dtype;                     // of the first layer's weights: f32, f16, bf16 or i8
};

struct EncoderLayer {
  Linear qkv;  // (3 * hidden, hidden): query, key, value one after the other
  Linear attention_output;
  LayerNorm attention_norm;
  Linear up, down;
  LayerNorm output_norm;
};

// ElasticBERT's exit (Liu et al. 2022): pooler tanh(W x + b), then a classifier; x is what
// ModelConfig::pooling says.
struct ExitHead {
  Linear pooler;  // without a kernel where there is none
  Linear classifier;
  float temperature = 1.0f;  // logits are divided by it (Guo et al. 2017)
};

class BertNetwork final : public Network, public std::enable_shared_from_this<BertNetwork> {
 public:
  // Opens and checks the GGUF file at `path`, for `kernels`, which must outlive the BertNetwork.
  // The message names the path and the key, tensor or byte that is wrong. Lack of memory is kIo.
  static Result<std::shared_ptr<const BertNetwork>> open(const std::string& path,
                                                         const kernels::Kernels& kernels,
                                                         const ModelOptions& options = {});
  // The same from bytes in memory, all of it at once: they are not needed any more afterwards.
  // `path` is for messages only.
  static Result<std::shared_ptr<const BertNetwork>> from_bytes(const std::string& path,
                                                               std::span<const std::byte> bytes,
                                                               const kernels::Kernels& kernels,
                                                               const ModelOptions& options = {});
  // The same of a file whose container has been read.
  static Result<std::shared_ptr<const BertNetwork>> load_file(ModelFile file,
                                                              const kernels::Kernels& kernels,
                                                              const ModelOptions& options);
  ~BertNetwork() override;

  // The forms of inputs are in runtime/bert/text_input.h.
  Result<Prepared> prepare(const Input& input) const override;
  Prepared random_input(std::size_t length, std::uint64_t seed) const override;
  std::unique_ptr<Engine> make_engine(std::size_t threads) const override;
  std::unique_ptr<BatchEngine> make_batch_engine(std::size_t max_samples,
                                                 std::size_t threads) const override;

  const ModelConfig& config() const { return config_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }

  // Reads what is not there yet: the layers after `from` up to `to`, and the exit behind layer `to`
  // if it has one and it is wanted. Engines call it; who wants the first sample to be as fast as
  // the others calls load_all() before.
  Status load(std::size_t from, std::size_t to, bool exit_wanted = true) const;
  Status load_all() const override;

  // Loaded before; our bug otherwise.
  const EncoderLayer& layer(std::size_t layer) const;
  const ExitHead& exit(std::size_t index) const;

  // rows (ids.size(), hidden): word embeddings of ids within the table.
  Status gather_words(std::span<const std::int32_t> ids, std::span<float> rows) const;
  const std::vector<float>& position_embeddings() const { return position_; }
  const std::vector<float>& type_embeddings() const { return type_; }
  const LayerNorm& embedding_norm() const { return embedding_norm_; }

 private:
  friend class ModelLoader;
  struct Source;  // the file, and where everything is in it (runtime/bert/model_loader.h)
  BertNetwork();

  ModelConfig config_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<float> position_, type_;
  LayerNorm embedding_norm_;
  // Filled by load(), part by part, under Source's lock.
  mutable std::vector<EncoderLayer> layers_;
  mutable std::vector<ExitHead> exits_;  // one per config().exit_layers
  std::unique_ptr<Source> source_;
};

// For runtime/loader.
Result<std::shared_ptr<const Network>> load_bert(ModelFile file, const kernels::Kernels& kernels,
                                                 const ModelOptions& options);

}  // namespace splitee::runtime
