// BatchEngine over a BertNetwork: the tokens of the samples lie one after the other, without
// padding; many of them run in groups. Thread rule, ownership, determinism: as runtime/network.h
// says.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "runtime/bert/model.h"
#include "runtime/network.h"

namespace splitee::runtime {

class Encoder;
struct SampleRows;

class BertBatchEngine final : public BatchEngine {
 public:
  BertBatchEngine(std::shared_ptr<const BertNetwork> model, std::size_t max_samples,
                  std::size_t threads = 1);
  ~BertBatchEngine() override;

  Status check(const BatchSample& sample) const override;
  Status run(std::span<const BatchSample> samples) override;
  std::span<const float> probabilities(std::size_t index) const override;

  const BertNetwork& model() const { return *model_; }

 private:
  static std::size_t group_size(std::span<const BatchSample> samples,
                                std::span<const std::size_t> left);
  Status run_group(std::span<const BatchSample> samples, std::span<const std::size_t> group);
  Status place(std::span<const BatchSample> samples, std::span<const std::size_t> group);

  std::shared_ptr<const BertNetwork> model_;
  std::size_t max_samples_;
  std::unique_ptr<Encoder> encoder_;
  std::vector<std::size_t> order_;  // indices of the samples, in the order of their layers
  std::vector<SampleRows> rows_;    // of a group, in that order
  mutable Encoding unpacked_;       // of the sample at hand
  std::vector<float> probabilities_;
};

}  // namespace splitee::runtime
