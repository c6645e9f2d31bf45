// What a server's worker runs requests on: a BatchEngine, or a stand-in under test.
// Thread rule: one Backend per worker thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "runtime/network.h"

namespace splitee::transport {

// What requests are checked against: the model, as far as it shows in messages.
struct ModelShape {
  std::uint64_t model_hash = 0;
  runtime::InputKind input = runtime::InputKind::kText;
  std::size_t max_length = 0;  // of an input, in units
  std::size_t max_input_bytes = 0;
  std::vector<runtime::LayerSizes> sizes;  // [0 .. layers()]
  std::size_t classes = 0;
  std::size_t layers() const { return sizes.empty() ? 0 : sizes.size() - 1; }
  // Columns and rows of an activation of `layer`, at most.
  std::size_t max_rows(std::size_t layer) const {
    return sizes[layer].rows == 0 ? max_length : sizes[layer].rows;
  }
  bool fits(std::size_t layer, std::size_t rows, std::size_t cols) const {
    const bool own_rows = sizes[layer].rows == 0 || rows == sizes[layer].rows;
    return cols == sizes[layer].cols && own_rows && rows <= max_rows(layer);
  }
  // Of the input that activations of `rows` come from, in units: 1 where that does not show.
  std::size_t length_of(std::size_t layer, std::size_t rows) const {
    return layer == 0 || sizes[layer].rows == 0 ? rows : 1;
  }
  // Of finishing a request, in millions of operations, at least 1.
  std::uint64_t work(std::size_t layer, std::size_t length) const;
};

ModelShape shape_of(const runtime::Network& network);

// A request that fits the shape. Values are finite; an input is not checked yet.
using BackendRequest = runtime::BatchSample;

class Backend {
 public:
  virtual ~Backend() = default;
  // Probabilities (classes) of the last exit. Fails where the model does not take the values.
  virtual Result<std::vector<float>> run(const BackendRequest& request) = 0;
  // The same for several requests of one layer, in their order; each answer is what run() would
  // give. Unless overridden, one after the other.
  virtual std::vector<Result<std::vector<float>>> run_batch(
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

// A single-threaded engine over `network` for batches of up to `max_batch` requests.
std::unique_ptr<Backend> make_engine_backend(std::shared_ptr<const runtime::Network> network,
                                             std::size_t max_batch);

}  // namespace splitee::transport
