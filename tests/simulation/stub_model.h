// A stand-in for the network that is simulated around: its answer is a function of the model and
// of the values sent, so that an answer from another request or another model shows.
#pragma once

#include <bit>
#include <vector>

#include "base/rng.h"
#include "tests/transport/shapes.h"
#include "transport/client/client.h"
#include "transport/server/backend.h"

namespace splitee::simulation {

inline constexpr std::size_t kLayers = 6, kHidden = 3, kMaxTokens = 5, kClasses = 2;

inline transport::ModelShape shape_of_model(std::uint64_t model_hash) {
  return transport::testing::uniform_shape(model_hash, kLayers, kHidden, kMaxTokens, kClasses);
}

// Probabilities that two values fix: what came in, and who answers.
inline std::vector<float> answer_of(std::uint64_t content, std::uint64_t model_hash) {
  const std::uint64_t mixed = mix_seed(content ^ mix_seed(model_hash));
  const float first = static_cast<float>(mixed >> 40) * 0x1p-24f;
  return {first, 1.0f - first};
}

inline std::uint64_t content_of(std::size_t layer, std::span<const float> values) {
  std::uint64_t content = layer;
  for (const float value : values) {
    content = mix_seed(content ^ std::bit_cast<std::uint32_t>(value));
  }
  return content;
}

inline std::uint64_t content_of(std::span<const std::int32_t> ids) {
  std::uint64_t content = 0;
  for (const std::int32_t id : ids) content = mix_seed(content ^ static_cast<std::uint32_t>(id));
  return content;
}

class StubBackend : public transport::Backend {
 public:
  explicit StubBackend(std::uint64_t model_hash) : model_hash_(model_hash) {}
  Result<std::vector<float>> run(const transport::BackendRequest& request) override {
    return answer_of(request.layer == 0 ? content_of(transport::testing::words_of(request.input))
                                        : content_of(request.layer, request.activation),
                     model_hash_);
  }

 private:
  std::uint64_t model_hash_;
};

}  // namespace splitee::simulation
