#include "runtime/bert/batch_engine.h"

#include <algorithm>
#include <numeric>

#include "runtime/bert/encoder.h"
#include "runtime/bert/sample_check.h"
#include "runtime/bert/text_input.h"

namespace splitee::runtime {

BertBatchEngine::BertBatchEngine(std::shared_ptr<const BertNetwork> model, std::size_t max_samples,
                                 std::size_t threads)
    : model_(std::move(model)),
      max_samples_(max_samples),
      encoder_(std::make_unique<Encoder>(*model_, max_samples * model_->config().max_tokens,
                                         max_samples, threads)) {}

BertBatchEngine::~BertBatchEngine() = default;

Status BertBatchEngine::check(const BatchSample& sample) const {
  const ModelConfig& config = model_->config();
  if (sample.layer > 0) {
    return check_activation(config, sample.layer, sample.rows, sample.activation);
  }
  if (Status s = unpack(sample.input, unpacked_); !s.ok()) return s;
  return check_input(config, unpacked_.ids, unpacked_.types);
}

Status BertBatchEngine::run(std::span<const BatchSample> samples) {
  SPLITEE_CHECK(samples.size() <= max_samples_);
  if (samples.empty()) return {};
  if (Status s = place(samples); !s.ok()) return s;
  const ModelConfig& config = model_->config();
  // The samples that go through a layer are the first ones in the order of their layers.
  std::size_t joined = 0;
  const auto join = [&](std::size_t layer) {
    while (joined < samples.size() && samples[order_[joined]].layer < layer) ++joined;
    return std::span(rows_).first(joined);
  };
  const bool first_only = config.pooling == Pooling::kFirstToken;
  for (std::size_t layer = 1; layer < config.layers + (first_only ? 0 : 1); ++layer) {
    const auto rows = join(layer);
    if (!rows.empty()) encoder_->run_layer(model_->layer(layer), rows);
  }
  if (first_only) {
    const auto rows = join(config.layers);
    if (!rows.empty()) encoder_->run_first(model_->layer(config.layers), rows);
    encoder_->take_first(std::span(rows_).subspan(joined), joined);
  } else {
    encoder_->take_means(rows_);
  }
  const auto found = encoder_->evaluate_exit(model_->exit(config.exit_layers.size() - 1),
                                             encoder_->first_rows(), samples.size());
  probabilities_.resize(found.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    std::copy_n(found.begin() + static_cast<std::ptrdiff_t>(i * config.classes), config.classes,
                probabilities_.begin() + static_cast<std::ptrdiff_t>(order_[i] * config.classes));
  }
  return {};
}

std::span<const float> BertBatchEngine::probabilities(std::size_t index) const {
  const std::size_t classes = model_->config().classes;
  SPLITEE_CHECK((index + 1) * classes <= probabilities_.size());
  return std::span(probabilities_).subspan(index * classes, classes);
}

// Order and rows of the samples, and their inputs in place.
Status BertBatchEngine::place(std::span<const BatchSample> samples) {
  order_.resize(samples.size());
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  std::stable_sort(order_.begin(), order_.end(), [&](std::size_t a, std::size_t b) {
    return samples[a].layer < samples[b].layer;
  });
  rows_.clear();
  const std::size_t hidden = model_->config().hidden;
  std::size_t begin = 0;
  for (const std::size_t index : order_) {
    const BatchSample& sample = samples[index];
    const std::size_t count = sample.layer == 0 ? sample.input.length : sample.rows;
    SPLITEE_CHECK(count > 0 && count <= model_->config().max_tokens);
    if (sample.layer == 0) {
      if (Status s = unpack(sample.input, unpacked_); !s.ok()) return s;
      if (Status s = encoder_->embed(unpacked_.ids, unpacked_.types, begin); !s.ok()) return s;
    } else {
      std::copy(sample.activation.begin(), sample.activation.end(),
                encoder_->rows() + begin * hidden);
    }
    rows_.push_back({begin, count});
    begin += count;
  }
  return model_->load(samples[order_.front()].layer, model_->config().layers);
}

}  // namespace splitee::runtime
