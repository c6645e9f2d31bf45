// Runs one sample through a Model, layer by layer: the two halves of split computing are the same
// calls on the edge (begin, run_to, activation) and on the server (resume, run_to, evaluate_exit).
// Thread rule: one Engine per thread; the Model behind it is shared. `threads` > 1 makes the
// engine use helper threads of its own for single products.
// Ownership: the workspace is allocated once, for the model's longest sample; views returned are
// valid until the next call that runs a layer or starts a sample.
// Determinism: with one kernel target, results are bit-identical for every number of threads and
// every way of splitting a sample with activation() and resume().
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "runtime/model.h"
#include "runtime/status.h"
#include "runtime/tokenizer.h"

namespace splitee::runtime {

class ThreadPool;

class Engine {
 public:
  explicit Engine(std::shared_ptr<const Model> model, std::size_t threads = 1);
  ~Engine();

  // Starts a sample: computes the embedding output (layer 0).
  // Fails on no tokens, too many, or an id or type outside the model's tables.
  Status begin(std::span<const std::int32_t> ids, std::span<const std::int32_t> types);

  // Starts a sample from the activation of `layer` (0 .. layers), (tokens, hidden) row major.
  // Fails if the layer or the shape does not fit the model, or a value is not finite.
  Status resume(std::size_t layer, std::size_t tokens, std::span<const float> activation);

  // Runs on to `layer` (>= the layer reached, <= layers; our bug otherwise).
  void run_to(std::size_t layer);

  // Probabilities (classes) of exit `exit_index` (0-based into config().exit_layers), whose layer
  // must be the layer reached. NaN where finite but huge weights or activations overflowed.
  std::span<const float> evaluate_exit(std::size_t exit_index);

  // Output of the layer reached, (tokens, hidden) row major, contiguous.
  std::span<const float> activation() const;
  std::size_t layer() const { return layer_; }
  std::size_t tokens() const { return tokens_; }
  const Model& model() const { return *model_; }

 private:
  Status check_tokens(std::size_t tokens) const;
  void run_layer(const EncoderLayer& layer);
  void attend();
  void add_and_norm(const float* addend, const LayerNorm& norm);
  void matmul(const Linear& linear, const float* a, std::size_t a_stride, float* c,
              std::size_t rows);
  template <class Body>
  void for_parts(std::size_t count, const Body& body);

  std::shared_ptr<const Model> model_;
  std::unique_ptr<ThreadPool> pool_;
  std::size_t layer_ = 0;
  std::size_t tokens_ = 0;
  struct Workspace;
  std::unique_ptr<Workspace> work_;
};

}  // namespace splitee::runtime
