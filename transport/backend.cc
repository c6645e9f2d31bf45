#include "transport/backend.h"

#include "runtime/batch_engine.h"

namespace splitee::transport {
namespace {

using Probabilities = runtime::Result<std::vector<float>>;

class EngineBackend : public Backend {
 public:
  EngineBackend(std::shared_ptr<const runtime::Model> model, std::size_t max_batch)
      : engine_(std::move(model), max_batch) {}

  Probabilities run(const BackendRequest& request) override {
    return std::move(run_batch({&request, 1}).front());
  }

  std::vector<Probabilities> run_batch(std::span<const BackendRequest> requests) override {
    std::vector<Probabilities> results;
    std::vector<runtime::BatchSample> samples;
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const BackendRequest& request = requests[i];
      const runtime::BatchSample sample{request.layer, request.ids, request.types,
                                        request.activation};
      if (runtime::Status status = engine_.check(sample); !status.ok()) {
        results.push_back(std::move(status));
        continue;
      }
      results.push_back(std::vector<float>());
      samples.push_back(sample);
      places.push_back(i);
    }
    if (samples.empty()) return results;
    const runtime::Status status = engine_.run(samples);
    for (std::size_t i = 0; i < places.size(); ++i) {
      if (!status.ok()) {
        results[places[i]] = status;
        continue;
      }
      const std::span<const float> values = engine_.probabilities(i);
      results[places[i]] = std::vector<float>(values.begin(), values.end());
    }
    return results;
  }

 private:
  runtime::BatchEngine engine_;
};

}  // namespace

std::vector<runtime::Result<std::vector<float>>> Backend::run_batch(
    std::span<const BackendRequest> requests) {
  std::vector<runtime::Result<std::vector<float>>> results;
  results.reserve(requests.size());
  for (const BackendRequest& request : requests) results.push_back(run(request));
  return results;
}

ServedModel::ServedModel(const ModelShape& model_shape, const BackendFactory& factory,
                         std::size_t workers)
    : shape(model_shape) {
  for (std::size_t i = 0; i < workers; ++i) backends.push_back(factory());
}

ModelShape shape_of(const runtime::Model& model) {
  const runtime::ModelConfig& config = model.config();
  return {model.hash(), config.layers, config.hidden, config.max_tokens, config.classes};
}

std::unique_ptr<Backend> make_engine_backend(std::shared_ptr<const runtime::Model> model,
                                             std::size_t max_batch) {
  return std::make_unique<EngineBackend>(std::move(model), max_batch);
}

}  // namespace splitee::transport
