#include "runtime/bert/batch_engine.h"

#include <limits>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "runtime/bert/engine.h"
#include "runtime/bert/text_input.h"
#include "tests/runtime/model_builder.h"

using namespace splitee;
using namespace splitee::runtime;
using namespace splitee::runtime::testing;

namespace {

constexpr std::uint32_t kSeed = 11;
const ModelShape kShape{.layers = 4,
                        .hidden = 52,
                        .heads = 4,
                        .ffn = 101,
                        .positions = 37,
                        .classes = 3,
                        .exit_layers = {2, 4},
                        .seed = 5};

std::shared_ptr<const BertNetwork> load(const splitee::kernels::Kernels& kernels,
                                        std::uint32_t type = kTensorF32, bool mean_exits = false,
                                        std::size_t positions = kShape.positions) {
  ModelShape shape = kShape;
  shape.type = type;
  shape.positions = positions;
  shape.mean_exits = mean_exits;
  const auto model = BertNetwork::from_bytes("M", as_bytes(build(random_model(shape))), kernels);
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return *model;
}

// A sample as it arrives, with the answer that an engine gives it alone.
struct Request {
  std::size_t layer = 0;
  std::vector<std::int32_t> ids, types;
  Prepared input;
  std::vector<float> activation, expected;

  BatchSample view() const {
    if (layer == 0) return {.input = input.view()};
    return {.layer = layer, .rows = ids.size(), .activation = activation};
  }
};

Request make_request(BertEngine& engine, std::mt19937& random) {
  const ModelConfig& config = engine.model().config();
  Request request;
  const std::size_t tokens = 1 + random() % config.max_tokens;
  for (std::size_t i = 0; i < tokens; ++i) {
    request.ids.push_back(static_cast<std::int32_t>(random() % config.vocab));
    request.types.push_back(static_cast<std::int32_t>(random() % config.token_types));
  }
  request.input = pack(request.ids, request.types);
  REQUIRE(engine.begin(request.ids, request.types).ok());
  request.layer = random() % (config.layers + 1);
  REQUIRE(engine.run_to(request.layer).ok());
  const auto activation = engine.activation();
  request.activation.assign(activation.begin(), activation.end());
  REQUIRE(engine.run_to(config.layers).ok());
  const auto last = engine.evaluate_exit(config.exit_layers.size() - 1);
  request.expected.assign(last.begin(), last.end());
  return request;
}

void check_batches(std::shared_ptr<const BertNetwork> model, std::size_t most, int rounds,
                   std::size_t threads) {
  BertEngine alone(model);
  BertBatchEngine together(model, most, threads);
  std::mt19937 random(kSeed);
  for (int round = 0; round < rounds; ++round) {
    CAPTURE(round);
    std::vector<Request> requests(round == 0 ? most : 1 + random() % most);
    std::vector<BatchSample> views;
    for (Request& request : requests) {
      request = make_request(alone, random);
      views.push_back(request.view());
      CHECK(together.check(views.back()).ok());
    }
    REQUIRE(together.run(views).ok());
    for (std::size_t i = 0; i < requests.size(); ++i) {
      CAPTURE(i);
      const auto found = together.probabilities(i);
      CHECK(std::vector<float>(found.begin(), found.end()) == requests[i].expected);
    }
  }
}

}  // namespace

TEST_CASE("BatchEngine: each sample's bits are those it gets alone, from any layer") {
  CAPTURE(kSeed);
  for (const auto* target : splitee::kernels::compiled_targets()) {
    if (!splitee::kernels::supported(*target)) continue;
    CAPTURE(std::string(target->target));
    for (const std::uint32_t type : {kTensorF32, kTensorBf16, kTensorI8}) {
      CAPTURE(type);
      for (const bool mean_exits : {false, true}) {
        CAPTURE(mean_exits);
        check_batches(load(*target, type, mean_exits), 9, 12, 1);
        check_batches(load(*target, type, mean_exits), 9, 12, 3);
      }
    }
  }
}

TEST_CASE("BatchEngine: more rows than go through the layers together, also in one sample") {
  const auto& kernels = *splitee::kernels::find_target("");
  for (const bool mean_exits : {false, true}) {
    CAPTURE(mean_exits);
    check_batches(load(kernels, kTensorF32, mean_exits), 64, 3, 1);
    check_batches(load(kernels, kTensorI8, mean_exits, 400), 12, 4, 2);
  }
}

TEST_CASE("BatchEngine: no samples") {
  BertBatchEngine engine(load(*splitee::kernels::find_target("scalar")), 2);
  CHECK(engine.run({}).ok());
}

TEST_CASE("BatchEngine: check refuses what an BertEngine refuses") {
  BertBatchEngine engine(load(*splitee::kernels::find_target("scalar")), 2);
  const auto message = [&](const BatchSample& sample) { return engine.check(sample).message(); };
  const std::vector<std::int32_t> ids = {2, 5, 1000}, types = {0, 0, 0};
  const std::vector<float> values(3 * 52, 0.5f);
  CHECK(message({}).find("0 tokens") != std::string::npos);
  const Prepared input = pack(ids, types);
  CHECK(message({.input = input.view()}).find("token id 1000") != std::string::npos);
  CHECK(message({.input = {2, input.bytes}}).find("15 bytes for 2 tokens") != std::string::npos);
  CHECK(message({.layer = 1, .rows = 3, .activation = values}).empty());
  CHECK(message({.layer = 5, .rows = 3, .activation = values}).find("layer 5") !=
        std::string::npos);
  CHECK(message({.layer = 1, .rows = 3, .activation = std::span(values).first(100)})
            .find("100 values") != std::string::npos);
  std::vector<float> bad = values;
  bad[60] = std::numeric_limits<float>::infinity();
  CHECK(message({.layer = 1, .rows = 3, .activation = bad}).find("not finite") !=
        std::string::npos);
}
