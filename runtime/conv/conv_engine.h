// Runs images through a ConvNetwork: one at a time, or several together.
// Thread rule, ownership, determinism: as Engine and BatchEngine (runtime/network.h).
#pragma once

#include <memory>
#include <vector>

#include "runtime/conv/conv_maps.h"

namespace splitee::runtime {

class ConvEngine final : public Engine {
 public:
  ConvEngine(std::shared_ptr<const ConvNetwork> network, std::size_t threads);

  Status begin(PreparedView input) override;
  Status resume(std::size_t layer, std::size_t rows, std::span<const float> activation) override;
  Status run_to(std::size_t layer, bool exit_wanted) override;
  std::span<const float> evaluate_exit(std::size_t exit) override;
  void finish_layer() override;
  std::span<const float> activation() override;
  std::size_t ready_layer() const override { return complete_ ? layer_ : layer_ - 1; }
  std::span<const float> ready_activation() const override;
  std::size_t layer() const override { return layer_; }

 private:
  void run_layer(std::size_t layer);

  std::shared_ptr<const ConvNetwork> network_;
  ConvMaps maps_;
  AlignedBuffer<float> x_, y_;
  std::size_t layer_ = 0;
  bool complete_ = true;  // whether x_ is the output of layer_, not of the one before
};

// Layer by layer, so that a layer's weights stay in the cache for all images that go through it.
class ConvBatchEngine final : public BatchEngine {
 public:
  ConvBatchEngine(std::shared_ptr<const ConvNetwork> network, std::size_t max_samples,
                  std::size_t threads);

  // Decodes the image, as run() does again: nothing of it is kept.
  Status check(const BatchSample& sample) const override;
  Status run(std::span<const BatchSample> samples) override;
  std::span<const float> probabilities(std::size_t index) const override;

 private:
  Status join(const BatchSample& sample, float* x) const;

  std::shared_ptr<const ConvNetwork> network_;
  ConvMaps maps_;
  std::vector<AlignedBuffer<float>> x_;  // per sample
  AlignedBuffer<float> y_;
  std::vector<float> probabilities_;  // (samples, classes)
};

}  // namespace splitee::runtime
