// What a server's worker runs requests on: a BatchEngine, or a stand-in under test.
// Thread rule: one Backend per worker thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "runtime/model.h"
#include "runtime/status.h"

namespace splitee::transport {

// What requests are checked against.
struct ModelShape {
  std::uint64_t model_hash = 0;
  std::size_t layers = 0;
  std::size_t hidden = 0;
  std::size_t max_tokens = 0;
  std::size_t classes = 0;
};

ModelShape shape_of(const runtime::Model& model);

// A request that fits the shape. Values are finite; ids and types are not checked yet.
struct BackendRequest {
  std::size_t layer = 0;  // 0: ids and types; else the activation of that layer
  std::size_t tokens = 0;
  std::span<const float> activation;    // (tokens, hidden)
  std::span<const std::int32_t> ids;    // (tokens)
  std::span<const std::int32_t> types;  // (tokens)
};

class Backend {
 public:
  virtual ~Backend() = default;
  // Probabilities (classes) of the last exit. Fails where the model does not take the values.
  virtual runtime::Result<std::vector<float>> run(const BackendRequest& request) = 0;
  // The same for several requests of one layer, in their order; each answer is what run() would
  // give. Unless overridden, one after the other.
  virtual std::vector<runtime::Result<std::vector<float>>> run_batch(
      std::span<const BackendRequest> requests);
};

using BackendFactory = std::function<std::unique_ptr<Backend>()>;

// A model at work: what is checked against, and a backend for each worker. Requests hold on to the
// one they were accepted for, so that another can take its place between two requests.
struct ServedModel {
  ServedModel(const ModelShape& model_shape, const BackendFactory& factory, std::size_t workers);
  const ModelShape shape;
  std::vector<std::unique_ptr<Backend>> backends;
};

// A single-threaded engine over `model` for batches of up to `max_batch` requests.
std::unique_ptr<Backend> make_engine_backend(std::shared_ptr<const runtime::Model> model,
                                             std::size_t max_batch);

}  // namespace splitee::transport
