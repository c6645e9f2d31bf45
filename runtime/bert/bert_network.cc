// A BertNetwork from outside: opening, reading what is missing, and what it is as a Network.
#include <new>

#include "runtime/bert/batch_engine.h"
#include "runtime/bert/engine.h"
#include "runtime/bert/model.h"
#include "runtime/bert/model_loader.h"
#include "runtime/bert/text_input.h"

namespace splitee::runtime {
namespace {

Status out_of_memory(const std::string& path) {
  return {Code::kIo, path + ": not enough memory to load it"};
}

}  // namespace

BertNetwork::BertNetwork() = default;
BertNetwork::~BertNetwork() = default;

Result<std::shared_ptr<const BertNetwork>> BertNetwork::open(const std::string& path,
                                                             const kernels::Kernels& kernels,
                                                             const ModelOptions& options) {
  try {
    Result<ModelBytes> bytes = ModelBytes::open(path);
    if (!bytes.ok()) return bytes.status();
    Result<ModelFile> file = read_model_file(std::move(*bytes));
    if (!file.ok()) return file.status();
    return ModelLoader::load(std::move(*file), kernels, options);
  } catch (const std::bad_alloc&) {
    return out_of_memory(path);
  }
}

Result<std::shared_ptr<const BertNetwork>> BertNetwork::from_bytes(const std::string& path,
                                                                   std::span<const std::byte> bytes,
                                                                   const kernels::Kernels& kernels,
                                                                   const ModelOptions& options) {
  try {
    ModelOptions all = options;
    all.preload = kAllLayers;
    Result<ModelFile> file = read_model_file(ModelBytes::from_memory(path, bytes));
    if (!file.ok()) return file.status();
    auto model = ModelLoader::load(std::move(*file), kernels, all);
    if (!model.ok()) return model;
    if (Status s = (*model)->load_all(); !s.ok()) return s;
    return model;
  } catch (const std::bad_alloc&) {
    return out_of_memory(path);
  }
}

Result<std::shared_ptr<const BertNetwork>> BertNetwork::load_file(ModelFile file,
                                                                  const kernels::Kernels& kernels,
                                                                  const ModelOptions& options) {
  return ModelLoader::load(std::move(file), kernels, options);
}

Result<Prepared> BertNetwork::prepare(const Input& input) const {
  return prepare_text(*this, input);
}

Prepared BertNetwork::random_input(std::size_t length, std::uint64_t seed) const {
  return random_text(config_, length, seed);
}

std::unique_ptr<Engine> BertNetwork::make_engine(std::size_t threads) const {
  return std::make_unique<BertEngine>(shared_from_this(), threads);
}

std::unique_ptr<BatchEngine> BertNetwork::make_batch_engine(std::size_t max_samples,
                                                            std::size_t threads) const {
  return std::make_unique<BertBatchEngine>(shared_from_this(), max_samples, threads);
}

Result<std::shared_ptr<const Network>> load_bert(ModelFile file, const kernels::Kernels& kernels,
                                                 const ModelOptions& options) {
  auto model = BertNetwork::load_file(std::move(file), kernels, options);
  if (!model.ok()) return model.status();
  return std::shared_ptr<const Network>(std::move(*model));
}

Status BertNetwork::load(std::size_t from, std::size_t to, bool exit_wanted) const {
  return source_->parts->load_layers(from, to, exit_wanted);
}

Status BertNetwork::load_all() const {
  if (Status s = source_->parts->load_all(); !s.ok()) return s;
  return source_->words.read_all(*source_->bytes);
}

const EncoderLayer& BertNetwork::layer(std::size_t layer) const {
  SPLITEE_CHECK(source_->parts->there(layer - 1));
  return layers_[layer - 1];
}

const ExitHead& BertNetwork::exit(std::size_t index) const {
  SPLITEE_CHECK(source_->parts->there(config_.layers + index));
  return exits_[index];
}

Status BertNetwork::gather_words(std::span<const std::int32_t> ids, std::span<float> rows) const {
  return source_->words.gather(*source_->bytes, ids, rows);
}

}  // namespace splitee::runtime
