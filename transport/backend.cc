#include "transport/backend.h"

#include "runtime/engine.h"

namespace splitee::transport {
namespace {

class EngineBackend : public Backend {
 public:
  explicit EngineBackend(std::shared_ptr<const runtime::Model> model) : engine_(std::move(model)) {}

  runtime::Result<std::vector<float>> run(const BackendRequest& request) override {
    runtime::Status status =
        request.layer == 0 ? engine_.begin(request.ids, request.types)
                           : engine_.resume(request.layer, request.tokens, request.activation);
    if (!status.ok()) return status;
    const runtime::ModelConfig& config = engine_.model().config();
    status = engine_.run_to(config.layers);
    if (!status.ok()) return status;
    const std::span<const float> probabilities =
        engine_.evaluate_exit(config.exit_layers.size() - 1);
    return std::vector<float>(probabilities.begin(), probabilities.end());
  }

 private:
  runtime::Engine engine_;
};

}  // namespace

ModelShape shape_of(const runtime::Model& model) {
  const runtime::ModelConfig& config = model.config();
  return {model.hash(), config.layers, config.hidden, config.max_tokens, config.classes};
}

std::unique_ptr<Backend> make_engine_backend(std::shared_ptr<const runtime::Model> model) {
  return std::make_unique<EngineBackend>(std::move(model));
}

}  // namespace splitee::transport
