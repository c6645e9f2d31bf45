#include "runtime/model.h"

#include <algorithm>
#include <new>

#include "runtime/model_loader.h"

namespace splitee::runtime {
namespace {

Status out_of_memory(const std::string& path) {
  return {Code::kIo, path + ": not enough memory to load it"};
}

}  // namespace

Model::Model() = default;
Model::~Model() = default;

Result<std::shared_ptr<const Model>> Model::open(const std::string& path,
                                                 const kernels::Kernels& kernels,
                                                 const ModelOptions& options) {
  try {
    Result<ModelBytes> bytes = ModelBytes::open(path);
    if (!bytes.ok()) return bytes.status();
    return ModelLoader::load(std::move(*bytes), kernels, options);
  } catch (const std::bad_alloc&) {
    return out_of_memory(path);
  }
}

Result<std::shared_ptr<const Model>> Model::from_bytes(const std::string& path,
                                                       std::span<const std::byte> bytes,
                                                       const kernels::Kernels& kernels,
                                                       const ModelOptions& options) {
  try {
    ModelOptions all = options;
    all.preload = kAllLayers;
    auto model = ModelLoader::load(ModelBytes::from_memory(path, bytes), kernels, all);
    if (!model.ok()) return model;
    if (Status s = (*model)->load_all(); !s.ok()) return s;
    return model;
  } catch (const std::bad_alloc&) {
    return out_of_memory(path);
  }
}

Status Model::load(std::size_t from, std::size_t to, bool exit_wanted) const {
  SPLITEE_CHECK(from <= to && to <= config_.layers);
  std::vector<Source::Part*> missing;
  const auto need = [&](Source::Part& part) {
    if (!part.there.load(std::memory_order_acquire)) missing.push_back(&part);
  };
  for (std::size_t layer = from; layer < to; ++layer) need(source_->layers[layer]);
  const auto exit = std::find(config_.exit_layers.begin(), config_.exit_layers.end(), to);
  if (exit_wanted && exit != config_.exit_layers.end()) {
    need(source_->exits[static_cast<std::size_t>(exit - config_.exit_layers.begin())]);
  }
  return missing.empty() ? Status() : load_parts(std::span<Source::Part* const>(missing));
}

Status Model::load_all() const {
  std::vector<Source::Part*> all;
  for (Source::Part& part : source_->layers) all.push_back(&part);
  for (Source::Part& part : source_->exits) all.push_back(&part);
  if (Status s = load_parts(std::span<Source::Part* const>(all)); !s.ok()) return s;
  return source_->words.read_all(*source_->bytes);
}

template <class Part>
Status Model::load_parts(std::span<Part* const> parts) const {
  const std::lock_guard lock(source_->mutex);
  try {
    std::vector<Part*> missing;
    CheckedSize size = 0;
    for (Part* part : parts) {
      if (part->there.load(std::memory_order_relaxed)) continue;
      missing.push_back(part);
      size = size + packed_bytes(part->plan);
    }
    if (missing.empty()) return {};
    WeightLoader loader(*source_->bytes, *kernels_, size.value());
    for (Part* part : missing) {
      std::byte* packed = source_->packed.data() + part->packed_offset;
      if (Status s = loader.load(part->plan, packed); !s.ok()) return s;
      part->there.store(true, std::memory_order_release);
    }
  } catch (const std::bad_alloc&) {
    return out_of_memory(path_);
  }
  return {};
}

const EncoderLayer& Model::layer(std::size_t layer) const {
  SPLITEE_CHECK(source_->layers[layer - 1].there.load(std::memory_order_acquire));
  return layers_[layer - 1];
}

const ExitHead& Model::exit(std::size_t index) const {
  SPLITEE_CHECK(source_->exits[index].there.load(std::memory_order_acquire));
  return exits_[index];
}

Status Model::gather_words(std::span<const std::int32_t> ids, std::span<float> rows) const {
  return source_->words.gather(*source_->bytes, ids, rows);
}

}  // namespace splitee::runtime
