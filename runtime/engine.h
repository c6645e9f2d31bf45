// Runs one sample through a Model, layer by layer: the two halves of split computing are the same
// calls on the edge (begin, run_to, evaluate_exit, activation) and on the server (resume, run_to,
// evaluate_exit).
//
// Only what is asked for is computed. An exit reads the first token, so of the layer reached
// evaluate_exit() computes keys and values for all tokens and the rest for the first one; the other
// tokens follow only if the sample goes on, by run_to() or activation(). Who offloads can spare
// them at all: ready_activation() is the input of such a layer, from which another engine starts.
// Who knows that the sample goes on anyway calls finish_layer() before evaluate_exit(), which
// spares the pass for the first token. All of these give the same bits.
//
// Thread rule: one Engine per thread; the Model behind it is shared. `threads` > 1 makes the
// engine use helper threads of its own for single products.
// Ownership: the workspace is allocated once, for the model's longest sample; views returned are
// valid until the next call that is not const.
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

class Encoder;

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

  // Goes on to `layer` (>= the layer reached, <= layers; our bug otherwise). Fails where the
  // weights of a layer cannot be read any more; the sample stays where it was then. Who will not
  // evaluate an exit of `layer` says so, and the exit's weights are not read for it.
  Status run_to(std::size_t layer, bool exit_wanted = true);

  // Probabilities (classes) of exit `exit_index` (0-based into config().exit_layers), whose layer
  // must be the layer reached, and not reached as one without its exit (our bug otherwise). NaN
  // where finite but huge weights or activations overflowed.
  std::span<const float> evaluate_exit(std::size_t exit_index);

  // Computes the layer reached for all tokens.
  void finish_layer();
  // Output of the layer reached, (tokens, hidden) row major, contiguous; finishes it.
  std::span<const float> activation();

  // The last layer whose output is there for all tokens, and that output: layer() or the one
  // before. At 0, ids and types are worth the same.
  std::size_t ready_layer() const;
  std::span<const float> ready_activation() const;

  std::size_t layer() const { return layer_; }
  std::size_t tokens() const { return tokens_; }
  const Model& model() const { return *model_; }

 private:
  // What is there of the output of layer_.
  enum class Computed { kNothing, kFirstToken, kAll };

  std::shared_ptr<const Model> model_;
  std::unique_ptr<Encoder> encoder_;
  std::size_t layer_ = 0;
  std::size_t tokens_ = 0;
  Computed computed_ = Computed::kAll;
};

}  // namespace splitee::runtime
