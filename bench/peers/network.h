// One side of the comparison: a network that takes token ids and computes every layer and exit.
// Thread rule: one thread. Errors: a message on standard error and exit status 1.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/peers/ort.h"
#include "runtime/bert/engine.h"

namespace splitee::bench {

class Network {
 public:
  virtual ~Network() = default;
  // Embeddings, all layers, all exits.
  virtual void run(std::span<const std::int32_t> ids) = 0;
  // Probabilities of the last run, (exits, classes).
  virtual std::vector<float> probabilities() const = 0;
};

// Our engine. Where `lazy`, it computes of the last layer what its exit reads and no more; else all
// tokens of every layer, as the peer does.
class OurNetwork : public Network {
 public:
  OurNetwork(std::shared_ptr<const runtime::BertNetwork> model, std::size_t threads,
             bool lazy = false);
  void run(std::span<const std::int32_t> ids) override;
  std::vector<float> probabilities() const override { return probabilities_; }

 private:
  runtime::BertEngine engine_;
  bool lazy_;
  std::vector<std::int32_t> types_;
  std::vector<float> probabilities_;
};

class OrtNetwork : public Network {
 public:
  OrtNetwork(const OrtOptions& options, std::size_t classes) : model_(options), classes_(classes) {}
  void run(std::span<const std::int32_t> ids) override { model_.run(ids); }
  std::vector<float> probabilities() const override;

 private:
  OrtModel model_;
  std::size_t classes_;
};

// Opens a model file for the target of that name (empty: the best).
std::shared_ptr<const runtime::BertNetwork> open_our_model(const std::string& path,
                                                           const std::string& target);

// `tokens` ids of a vocabulary of `vocab`, another list for every seed.
std::vector<std::int32_t> random_ids(std::size_t tokens, std::size_t vocab, std::uint32_t seed);

}  // namespace splitee::bench
