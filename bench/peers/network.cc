#include "bench/peers/network.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace splitee::bench {
namespace {

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "peers_bench: %s\n", message.c_str());
  std::exit(1);
}

}  // namespace

OurNetwork::OurNetwork(std::shared_ptr<const runtime::BertNetwork> model, std::size_t threads,
                       bool lazy)
    : engine_(std::move(model), threads), lazy_(lazy) {}

void OurNetwork::run(std::span<const std::int32_t> ids) {
  const std::vector<std::size_t>& exit_layers = engine_.model().config().exit_layers;
  types_.assign(ids.size(), 0);
  if (const Status status = engine_.begin(ids, types_); !status.ok()) {
    fail(status.message());
  }
  probabilities_.clear();
  for (std::size_t exit = 0; exit < exit_layers.size(); ++exit) {
    if (const Status status = engine_.run_to(exit_layers[exit]); !status.ok()) {
      fail(status.message());
    }
    if (!lazy_ || exit + 1 < exit_layers.size()) engine_.finish_layer();
    const std::span<const float> answer = engine_.evaluate_exit(exit);
    probabilities_.insert(probabilities_.end(), answer.begin(), answer.end());
  }
}

std::vector<float> OrtNetwork::probabilities() const {
  std::vector<float> result;
  for (std::size_t exit = 0; exit < model_.exits(); ++exit) {
    const std::span<const float> logits = model_.logits(exit, classes_);
    const float top = *std::max_element(logits.begin(), logits.end());
    double sum = 0.0;
    for (const float logit : logits) sum += std::exp(static_cast<double>(logit - top));
    for (const float logit : logits) {
      result.push_back(static_cast<float>(std::exp(static_cast<double>(logit - top)) / sum));
    }
  }
  return result;
}

std::shared_ptr<const runtime::BertNetwork> open_our_model(const std::string& path,
                                                           const std::string& target) {
  const kernels::Kernels* kernels = kernels::find_target(target);
  if (kernels == nullptr) fail("this CPU has no target " + target);
  auto model = runtime::BertNetwork::open(path, *kernels, {.preload = runtime::kAllLayers});
  if (!model.ok()) fail(model.status().message());
  return *model;
}

std::vector<std::int32_t> random_ids(std::size_t tokens, std::size_t vocab, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::uniform_int_distribution<std::int32_t> uniform(0, static_cast<std::int32_t>(vocab) - 1);
  std::vector<std::int32_t> ids(tokens);
  std::generate(ids.begin(), ids.end(), [&] { return uniform(engine); });
  return ids;
}

}  // namespace splitee::bench
