#include "runtime/numbers/numbers_engine.h"

#include <algorithm>

namespace splitee::runtime {

NumbersRows::NumbersRows(const NumbersNetwork& network, std::size_t max_rows, std::size_t threads)
    : network_(network),
      x_(allocate_aligned<float>(max_rows * network.config().widest())),
      sum_(allocate_aligned<float>(max_rows * network.config().widest())),
      logits_(allocate_aligned<float>(max_rows * network.info().classes())),
      prepared_(allocate_aligned<std::byte>(
          max_rows * prepared_bytes(network.kernels(), network.config().widest()))),
      pool_(threads) {}

void NumbersRows::run_layer(std::size_t layer, std::size_t rows) {
  const NumbersConfig& config = network_.config();
  const Linear& block = network_.block(layer);
  const auto epilogue = config.gelu ? kernels::Epilogue::kGelu : kernels::Epilogue::kNone;
  multiply(block, prepare(block, x_.get(), rows, prepared_.get(), pool_), sum_.get(), rows, 0,
           block.out, pool_, epilogue);
  const std::span<float> sum(sum_.get(), rows * block.out);
  if (!config.gelu) {
    for (float& value : sum) value = std::max(value, 0.0f);
  }
  if (config.residual[layer - 1]) {
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += x_[i];
  }
  std::swap(x_, sum_);
}

std::span<const float> NumbersRows::evaluate_exit(std::size_t exit, std::size_t rows) {
  const Linear& classifier = network_.classifier(exit);
  multiply(classifier, prepare(classifier, x_.get(), rows, prepared_.get(), pool_), logits_.get(),
           rows, 0, classifier.out, pool_);
  const std::span<float> logits(logits_.get(), rows * classifier.out);
  for (float& value : logits) value /= network_.info().temperatures[exit];
  network_.kernels().softmax(logits.data(), classifier.out, rows, classifier.out);
  return logits;
}

NumbersEngine::NumbersEngine(std::shared_ptr<const NumbersNetwork> network, std::size_t threads)
    : network_(std::move(network)), rows_(*network_, 1, threads) {}

Status NumbersEngine::begin(PreparedView input) {
  if (Status s = network_->check_input(input); !s.ok()) return s;
  network_->standardise(input, rows_.rows());
  layer_ = 0;
  complete_ = true;
  return {};
}

Status NumbersEngine::resume(std::size_t layer, std::size_t rows,
                             std::span<const float> activation) {
  if (Status s = check_activation(network_->info(), layer, rows, activation); !s.ok()) return s;
  if (Status s = network_->load_layers(layer, layer); !s.ok()) return s;
  // An activation that is this engine's own view needs no copy, and must not be one.
  if (activation.data() != rows_.rows()) {
    std::copy(activation.begin(), activation.end(), rows_.rows());
  }
  layer_ = layer;
  complete_ = true;
  return {};
}

Status NumbersEngine::run_to(std::size_t layer, bool exit_wanted) {
  SPLITEE_CHECK(layer >= layer_ && layer <= network_->config().layers());
  if (Status s = network_->load_layers(layer_, layer, exit_wanted); !s.ok()) return s;
  if (layer == layer_) return {};
  finish_layer();
  while (++layer_ < layer) rows_.run_layer(layer_, 1);
  complete_ = false;
  return {};
}

std::span<const float> NumbersEngine::evaluate_exit(std::size_t exit) {
  const std::vector<std::size_t>& layers = network_->info().exit_layers;
  SPLITEE_CHECK(exit < layers.size() && layers[exit] == layer_);
  finish_layer();
  return rows_.evaluate_exit(exit, 1);
}

void NumbersEngine::finish_layer() {
  if (!complete_) rows_.run_layer(layer_, 1);
  complete_ = true;
}

std::span<const float> NumbersEngine::activation() {
  finish_layer();
  return ready_activation();
}

std::span<const float> NumbersEngine::ready_activation() const {
  return {rows_.rows(), network_->config().width(ready_layer())};
}

NumbersBatchEngine::NumbersBatchEngine(std::shared_ptr<const NumbersNetwork> network,
                                       std::size_t max_samples, std::size_t threads)
    : network_(std::move(network)),
      max_samples_(max_samples),
      rows_(*network_, max_samples, threads) {}

Status NumbersBatchEngine::check(const BatchSample& sample) const {
  if (sample.layer == 0) return network_->check_input(sample.input);
  return check_activation(network_->info(), sample.layer, sample.rows, sample.activation);
}

Status NumbersBatchEngine::run(std::span<const BatchSample> samples) {
  SPLITEE_CHECK(samples.size() <= max_samples_);
  if (samples.empty()) return {};
  order_by_layer(samples, order_);
  const std::size_t layers = network_->config().layers();
  const std::size_t first = samples[order_.front()].layer;
  if (Status s = network_->load_layers(first, layers); !s.ok()) return s;
  // The samples that go through a layer are the first ones in the order of their layers; those that
  // start there lie behind them.
  std::size_t joined = 0;
  for (std::size_t layer = first; layer <= layers; ++layer) {
    if (layer > first) rows_.run_layer(layer, joined);
    for (; joined < samples.size() && samples[order_[joined]].layer == layer; ++joined) {
      const BatchSample& sample = samples[order_[joined]];
      float* row = rows_.rows() + joined * network_->config().width(layer);
      if (layer == 0) {
        network_->standardise(sample.input, row);
      } else {
        std::copy(sample.activation.begin(), sample.activation.end(), row);
      }
    }
  }
  const std::size_t classes = network_->info().classes();
  const auto found = rows_.evaluate_exit(network_->info().exits() - 1, samples.size());
  probabilities_.resize(found.size());
  for (std::size_t i = 0; i < samples.size(); ++i) {
    std::copy_n(found.begin() + static_cast<std::ptrdiff_t>(i * classes), classes,
                probabilities_.begin() + static_cast<std::ptrdiff_t>(order_[i] * classes));
  }
  return {};
}

std::span<const float> NumbersBatchEngine::probabilities(std::size_t index) const {
  const std::size_t classes = network_->info().classes();
  SPLITEE_CHECK((index + 1) * classes <= probabilities_.size());
  return std::span(probabilities_).subspan(index * classes, classes);
}

}  // namespace splitee::runtime
