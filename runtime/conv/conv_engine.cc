#include "runtime/conv/conv_engine.h"

#include <algorithm>

namespace splitee::runtime {

ConvEngine::ConvEngine(std::shared_ptr<const ConvNetwork> network, std::size_t threads)
    : network_(std::move(network)),
      maps_(*network_, threads),
      x_(allocate_aligned<float>(network_->config().largest_layer())),
      y_(allocate_aligned<float>(network_->config().largest_layer())) {}

Status ConvEngine::begin(PreparedView input) {
  if (Status s = network_->read_image(input, x_.get()); !s.ok()) return s;
  layer_ = 0;
  complete_ = true;
  return {};
}

Status ConvEngine::resume(std::size_t layer, std::size_t rows, std::span<const float> activation) {
  if (Status s = check_activation(network_->info(), layer, rows, activation); !s.ok()) return s;
  if (Status s = network_->load_layers(layer, layer); !s.ok()) return s;
  // An activation that is this engine's own view needs no copy, and must not be one.
  if (activation.data() != x_.get()) std::copy(activation.begin(), activation.end(), x_.get());
  layer_ = layer;
  complete_ = true;
  return {};
}

void ConvEngine::run_layer(std::size_t layer) {
  maps_.run_layer(layer, x_.get(), y_.get());
  std::swap(x_, y_);
}

Status ConvEngine::run_to(std::size_t layer, bool exit_wanted) {
  SPLITEE_CHECK(layer >= layer_ && layer <= network_->config().layers());
  if (Status s = network_->load_layers(layer_, layer, exit_wanted); !s.ok()) return s;
  if (layer == layer_) return {};
  finish_layer();
  while (++layer_ < layer) run_layer(layer_);
  complete_ = false;
  return {};
}

std::span<const float> ConvEngine::evaluate_exit(std::size_t exit) {
  const std::vector<std::size_t>& layers = network_->info().exit_layers;
  SPLITEE_CHECK(exit < layers.size() && layers[exit] == layer_);
  finish_layer();
  return maps_.evaluate_exit(exit, x_.get());
}

void ConvEngine::finish_layer() {
  if (!complete_) run_layer(layer_);
  complete_ = true;
}

std::span<const float> ConvEngine::activation() {
  finish_layer();
  return ready_activation();
}

std::span<const float> ConvEngine::ready_activation() const {
  return {x_.get(), network_->config().map(ready_layer()).size()};
}

ConvBatchEngine::ConvBatchEngine(std::shared_ptr<const ConvNetwork> network,
                                 std::size_t max_samples, std::size_t threads)
    : network_(std::move(network)), maps_(*network_, threads) {
  const std::size_t largest = network_->config().largest_layer();
  for (std::size_t i = 0; i < max_samples; ++i) x_.push_back(allocate_aligned<float>(largest));
  y_ = allocate_aligned<float>(largest);
}

Status ConvBatchEngine::check(const BatchSample& sample) const {
  if (sample.layer != 0) {
    return check_activation(network_->info(), sample.layer, sample.rows, sample.activation);
  }
  if (!sample.input.decoded.empty()) return {};
  std::vector<float> pixels(network_->config().input.size());
  return network_->read_image(sample.input, pixels.data());
}

Status ConvBatchEngine::join(const BatchSample& sample, float* x) const {
  if (sample.layer == 0) return network_->read_image(sample.input, x);
  std::copy(sample.activation.begin(), sample.activation.end(), x);
  return {};
}

Status ConvBatchEngine::run(std::span<const BatchSample> samples) {
  SPLITEE_CHECK(samples.size() <= x_.size());
  if (samples.empty()) return {};
  const std::size_t layers = network_->config().layers();
  std::size_t first = layers;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    first = std::min(first, samples[i].layer);
    if (Status s = join(samples[i], x_[i].get()); !s.ok()) return s;
  }
  if (Status s = network_->load_layers(first, layers); !s.ok()) return s;
  for (std::size_t layer = first + 1; layer <= layers; ++layer) {
    for (std::size_t i = 0; i < samples.size(); ++i) {
      if (samples[i].layer >= layer) continue;
      maps_.run_layer(layer, x_[i].get(), y_.get());
      std::swap(x_[i], y_);
    }
  }
  probabilities_.clear();
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto found = maps_.evaluate_exit(network_->info().exits() - 1, x_[i].get());
    probabilities_.insert(probabilities_.end(), found.begin(), found.end());
  }
  return {};
}

std::span<const float> ConvBatchEngine::probabilities(std::size_t index) const {
  const std::size_t classes = network_->info().classes();
  SPLITEE_CHECK((index + 1) * classes <= probabilities_.size());
  return std::span(probabilities_).subspan(index * classes, classes);
}

}  // namespace splitee::runtime
