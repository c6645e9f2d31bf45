#include "runtime/bert/engine.h"

#include <algorithm>

#include "runtime/bert/encoder.h"
#include "runtime/bert/sample_check.h"
#include "runtime/bert/text_input.h"

namespace splitee::runtime {

BertEngine::BertEngine(std::shared_ptr<const BertNetwork> model, std::size_t threads)
    : model_(std::move(model)),
      encoder_(std::make_unique<Encoder>(*model_, model_->config().max_tokens, 1, threads)) {}

BertEngine::~BertEngine() = default;

Status BertEngine::begin(PreparedView input) {
  if (Status s = unpack(input, unpacked_); !s.ok()) return s;
  return begin(unpacked_.ids, unpacked_.types);
}

Status BertEngine::begin(std::span<const std::int32_t> ids, std::span<const std::int32_t> types) {
  if (Status s = check_input(model_->config(), ids, types); !s.ok()) return s;
  if (Status s = encoder_->embed(ids, types, 0); !s.ok()) return s;
  tokens_ = ids.size();
  layer_ = 0;
  computed_ = Computed::kAll;
  return {};
}

Status BertEngine::resume(std::size_t layer, std::size_t tokens,
                          std::span<const float> activation) {
  if (Status s = check_activation(model_->config(), layer, tokens, activation); !s.ok()) return s;
  if (Status s = model_->load(layer, layer); !s.ok()) return s;
  // An activation that is this engine's own view needs no copy, and must not be one.
  if (activation.data() != encoder_->rows()) {
    std::copy(activation.begin(), activation.end(), encoder_->rows());
  }
  tokens_ = tokens;
  layer_ = layer;
  computed_ = Computed::kAll;
  return {};
}

Status BertEngine::run_to(std::size_t layer, bool exit_wanted) {
  SPLITEE_CHECK(tokens_ > 0 && layer >= layer_ && layer <= model_->config().layers);
  if (Status s = model_->load(layer_, layer, exit_wanted); !s.ok()) return s;
  if (layer == layer_) return {};
  finish_layer();
  const SampleRows sample{0, tokens_};
  while (++layer_ < layer) encoder_->run_layer(model_->layer(layer_), {&sample, 1});
  computed_ = Computed::kNothing;
  return {};
}

std::span<const float> BertEngine::evaluate_exit(std::size_t exit_index) {
  const ModelConfig& config = model_->config();
  SPLITEE_CHECK(tokens_ > 0 && exit_index < config.exit_layers.size());
  SPLITEE_CHECK(config.exit_layers[exit_index] == layer_);
  const SampleRows sample{0, tokens_};
  if (config.pooling == Pooling::kMean) {
    finish_layer();
    encoder_->take_means({&sample, 1});
    return encoder_->evaluate_exit(model_->exit(exit_index), encoder_->first_rows(), 1);
  }
  if (computed_ == Computed::kNothing) {
    encoder_->run_first(model_->layer(layer_), {&sample, 1});
    computed_ = Computed::kFirstToken;
  }
  const float* x = computed_ == Computed::kAll ? encoder_->rows() : encoder_->first_rows();
  return encoder_->evaluate_exit(model_->exit(exit_index), x, 1);
}

void BertEngine::finish_layer() {
  SPLITEE_CHECK(tokens_ > 0);
  const SampleRows sample{0, tokens_};
  if (computed_ == Computed::kNothing) {
    encoder_->run_layer(model_->layer(layer_), {&sample, 1});
  } else if (computed_ == Computed::kFirstToken) {
    encoder_->run_rest(model_->layer(layer_), {&sample, 1});
  }
  computed_ = Computed::kAll;
}

std::span<const float> BertEngine::activation() {
  finish_layer();
  return ready_activation();
}

std::size_t BertEngine::ready_layer() const {
  return computed_ == Computed::kAll ? layer_ : layer_ - 1;
}

std::span<const float> BertEngine::ready_activation() const {
  SPLITEE_CHECK(tokens_ > 0);
  return {encoder_->rows(), tokens_ * model_->config().hidden};
}

}  // namespace splitee::runtime
