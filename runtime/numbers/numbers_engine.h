// Engines over a NumbersNetwork. An exit reads the whole of its block, so a block is computed when
// its exit is asked for, or when the sample goes on.
// Thread rule, ownership, determinism: as runtime/network.h says.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/network.h"
#include "runtime/numbers/numbers_network.h"
#include "runtime/thread_pool.h"
#include "runtime/weights/products.h"

namespace splitee::runtime {

// The arithmetic over the rows of one or several samples, and its buffers.
class NumbersRows {
 public:
  NumbersRows(const NumbersNetwork& network, std::size_t max_rows, std::size_t threads);

  // (rows, width): the input of a layer, and after run_layer() its output.
  float* rows() { return x_.get(); }
  const float* rows() const { return x_.get(); }
  void run_layer(std::size_t layer, std::size_t rows);
  // Probabilities (rows, classes) of an exit that reads rows(). Valid until the next call.
  std::span<const float> evaluate_exit(std::size_t exit, std::size_t rows);

 private:
  const NumbersNetwork& network_;
  AlignedBuffer<float> x_, sum_, logits_;
  AlignedBuffer<std::byte> prepared_;
  ThreadPool pool_;
};

class NumbersEngine final : public Engine {
 public:
  NumbersEngine(std::shared_ptr<const NumbersNetwork> network, std::size_t threads);

  Status begin(PreparedView input) override;
  Status resume(std::size_t layer, std::size_t rows, std::span<const float> activation) override;
  Status run_to(std::size_t layer, bool exit_wanted = true) override;
  std::span<const float> evaluate_exit(std::size_t exit) override;
  void finish_layer() override;
  std::span<const float> activation() override;
  std::size_t ready_layer() const override { return complete_ ? layer_ : layer_ - 1; }
  std::span<const float> ready_activation() const override;
  std::size_t layer() const override { return layer_; }

 private:
  std::shared_ptr<const NumbersNetwork> network_;
  NumbersRows rows_;
  std::size_t layer_ = 0;
  bool complete_ = true;  // whether layer_ is computed
};

class NumbersBatchEngine final : public BatchEngine {
 public:
  NumbersBatchEngine(std::shared_ptr<const NumbersNetwork> network, std::size_t max_samples,
                     std::size_t threads);

  Status check(const BatchSample& sample) const override;
  Status run(std::span<const BatchSample> samples) override;
  std::span<const float> probabilities(std::size_t index) const override;

 private:
  std::shared_ptr<const NumbersNetwork> network_;
  std::size_t max_samples_;
  NumbersRows rows_;
  std::vector<std::size_t> order_;  // indices of the samples, in the order of their layers
  std::vector<float> probabilities_;
};

}  // namespace splitee::runtime
