#include "transport/server/backend.h"

#include <algorithm>
#include <cmath>

#include "runtime/network.h"

namespace splitee::transport {
namespace {

using Probabilities = Result<std::vector<float>>;

class EngineBackend : public Backend {
 public:
  EngineBackend(std::shared_ptr<const runtime::Network> network, std::size_t max_batch)
      : network_(std::move(network)), engine_(network_->make_batch_engine(max_batch)) {}

  Probabilities run(const BackendRequest& request) override {
    return std::move(run_batch({&request, 1}).front());
  }

  std::vector<Probabilities> run_batch(std::span<const BackendRequest> requests) override {
    std::vector<Probabilities> results;
    std::vector<runtime::BatchSample> samples;
    std::vector<std::size_t> places;
    std::vector<std::vector<float>> decoded(requests.size());
    for (std::size_t i = 0; i < requests.size(); ++i) {
      BackendRequest request = requests[i];
      if (Status status = check(request, decoded[i]); !status.ok()) {
        results.push_back(std::move(status));
        continue;
      }
      results.push_back(std::vector<float>());
      samples.push_back(request);
      places.push_back(i);
    }
    if (samples.empty()) return results;
    const Status status = engine_->run(samples);
    for (std::size_t i = 0; i < places.size(); ++i) {
      if (!status.ok()) {
        results[places[i]] = status;
        continue;
      }
      const std::span<const float> values = engine_->probabilities(i);
      results[places[i]] = std::vector<float>(values.begin(), values.end());
    }
    return results;
  }

 private:
  // What is decoded to be checked is not decoded again.
  Status check(BackendRequest& request, std::vector<float>& decoded) const {
    if (request.layer == 0) {
      if (Status status = network_->decode(request.input, decoded); !status.ok()) {
        const bool own = status.code() == Code::kIo;
        return own ? status : Status(Code::kInvalidArgument, status.message());
      }
      request.input.decoded = decoded;
    }
    return engine_->check(request);
  }

  std::shared_ptr<const runtime::Network> network_;
  std::unique_ptr<runtime::BatchEngine> engine_;
};

}  // namespace

std::vector<Result<std::vector<float>>> Backend::run_batch(
    std::span<const BackendRequest> requests) {
  std::vector<Result<std::vector<float>>> results;
  results.reserve(requests.size());
  for (const BackendRequest& request : requests) results.push_back(run(request));
  return results;
}

ServedModel::ServedModel(const ModelShape& model_shape, const BackendFactory& factory,
                         std::size_t workers)
    : shape(model_shape) {
  for (std::size_t i = 0; i < workers; ++i) backends.push_back(factory());
}

ModelShape shape_of(const runtime::Network& network) {
  const runtime::NetworkInfo& info = network.info();
  return {network.hash(), info.input,    info.max_length, info.bytes_of_input(info.max_length),
          info.sizes,     info.classes()};
}

std::uint64_t ModelShape::work(std::size_t layer, std::size_t length) const {
  constexpr double kUnit = 1e6;
  const double operations = runtime::operations_after(sizes, layer, length);
  return static_cast<std::uint64_t>(std::max(1.0, std::ceil(operations / kUnit)));
}

std::unique_ptr<Backend> make_engine_backend(std::shared_ptr<const runtime::Network> network,
                                             std::size_t max_batch) {
  return std::make_unique<EngineBackend>(std::move(network), max_batch);
}

}  // namespace splitee::transport
