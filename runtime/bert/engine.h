// Engine over a BertNetwork. An exit that reads the first token (ModelConfig::pooling) needs of the
// layer reached keys and values for all tokens and the rest for the first one; the other tokens
// follow only if the sample goes on. An exit that reads the mean of all tokens finishes the layer.
// Thread rule, ownership, determinism: as runtime/network.h says.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/status.h"
#include "runtime/bert/model.h"
#include "runtime/network.h"
#include "runtime/text/tokenizer.h"

namespace splitee::runtime {

class Encoder;

class BertEngine final : public Engine {
 public:
  explicit BertEngine(std::shared_ptr<const BertNetwork> model, std::size_t threads = 1);
  ~BertEngine() override;

  // Starts a sample: computes the embedding output (layer 0). The bytes are ids and types
  // (runtime/bert/text_input.h). Fails on no tokens, too many, or an id or type outside the model's
  // tables.
  Status begin(PreparedView input) override;
  Status begin(std::span<const std::int32_t> ids, std::span<const std::int32_t> types);

  // The activation is (tokens, hidden).
  Status resume(std::size_t layer, std::size_t tokens, std::span<const float> activation) override;
  Status run_to(std::size_t layer, bool exit_wanted = true) override;
  std::span<const float> evaluate_exit(std::size_t exit) override;
  void finish_layer() override;
  std::span<const float> activation() override;
  std::size_t ready_layer() const override;
  std::span<const float> ready_activation() const override;
  std::size_t layer() const override { return layer_; }

  std::size_t tokens() const { return tokens_; }
  const BertNetwork& model() const { return *model_; }

 private:
  // What is there of the output of layer_.
  enum class Computed { kNothing, kFirstToken, kAll };

  std::shared_ptr<const BertNetwork> model_;
  std::unique_ptr<Encoder> encoder_;
  Encoding unpacked_;  // of begin()
  std::size_t layer_ = 0;
  std::size_t tokens_ = 0;
  Computed computed_ = Computed::kAll;
};

}  // namespace splitee::runtime
