// Runs several samples to the model's last exit together: their tokens lie one after the other,
// without padding, so that every weight is read once for all of them. Samples may start at
// different layers; each joins in at its own.
// Thread rule, ownership: as Engine's; the workspace is for `max_samples` of the longest samples,
// and what is not used of it costs nothing.
// Determinism: a sample's probabilities are bit-identical to those that an Engine gives it alone,
// whatever the samples beside it and the number of threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/model.h"
#include "runtime/status.h"

namespace splitee::runtime {

class Encoder;
struct SampleRows;

// Layer 0: ids and types. Else: the activation of `layer`, (tokens, hidden) row major.
struct BatchSample {
  std::size_t layer = 0;
  std::span<const std::int32_t> ids = {}, types = {};
  std::span<const float> activation = {};
};

class BatchEngine {
 public:
  BatchEngine(std::shared_ptr<const Model> model, std::size_t max_samples, std::size_t threads = 1);
  ~BatchEngine();

  // Whether run() takes this sample; the errors of Engine::begin() and Engine::resume().
  Status check(const BatchSample& sample) const;

  // Runs at most max_samples samples, each of which check() has accepted (our bug otherwise).
  // Nothing of them is kept. Fails where weights cannot be read any more.
  Status run(std::span<const BatchSample> samples);

  // Probabilities (classes) of the last exit for samples[index] of the last run() that worked;
  // valid until the next.
  std::span<const float> probabilities(std::size_t index) const;

  const Model& model() const { return *model_; }

 private:
  Status place(std::span<const BatchSample> samples);

  std::shared_ptr<const Model> model_;
  std::size_t max_samples_;
  std::unique_ptr<Encoder> encoder_;
  std::vector<std::size_t> order_;  // indices of the samples, in the order of their layers
  std::vector<SampleRows> rows_;    // in that order
  std::vector<float> probabilities_;
};

}  // namespace splitee::runtime
