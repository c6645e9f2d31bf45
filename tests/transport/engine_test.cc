// The server over a real model: what comes back is what the edge would have computed itself.
#include "runtime/engine.h"

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/runtime/model_builder.h"
#include "tests/transport/peers.h"

namespace splitee::transport {
namespace {

using namespace testing;

std::shared_ptr<const runtime::Model> random_model() {
  const runtime::testing::ModelShape shape{.layers = 4,
                                           .hidden = 36,
                                           .heads = 3,
                                           .ffn = 70,
                                           .positions = 24,
                                           .classes = 3,
                                           .exit_layers = {1, 2, 4},
                                           .seed = 5};
  const std::string file = runtime::testing::build(runtime::testing::random_model(shape));
  const auto model = runtime::Model::from_bytes("test", std::as_bytes(std::span(file)),
                                                *kernels::find_target("scalar"));
  REQUIRE_MESSAGE(model.ok(), model.status().message());
  return *model;
}

class ModelServer {
 public:
  explicit ModelServer(std::shared_ptr<const runtime::Model> model) {
    auto server = Server::create(std::move(model), server_options());
    REQUIRE_MESSAGE(server.ok(), server.status().message());
    server_ = std::move(*server);
    thread_ = std::thread([this] { server_->run(); });
  }
  ~ModelServer() {
    server_->stop();
    thread_.join();
  }
  const std::string& endpoint() const { return server_->endpoint(); }

 private:
  std::unique_ptr<Server> server_;
  std::thread thread_;
};

std::unique_ptr<Client> client_of(const ModelServer& server, const runtime::Model& model,
                                  Dtype dtype = Dtype::kF32) {
  ClientOptions options = client_options({server.endpoint()});
  options.model_hash = model.hash();
  options.activation_dtype = dtype;
  auto client = make_client(options);
  REQUIRE_MESSAGE(client->wait_available(kPatienceUs), client->last_problem());
  return client;
}

float distance(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  float largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

}  // namespace

TEST_CASE("a sample split between edge and server gives the same probabilities") {
  const auto model = random_model();
  ModelServer server(model);
  runtime::Engine engine(model);
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kI8}) {
    const auto client = client_of(server, *model, dtype);
    for (const std::size_t tokens : {1, 7, 24}) {
      std::vector<std::int32_t> ids(tokens), types(tokens);
      for (std::size_t i = 0; i < tokens; ++i) {
        ids[i] = static_cast<std::int32_t>((3 * i + tokens) % model->config().vocab);
        types[i] = static_cast<std::int32_t>(i % 2);
      }
      REQUIRE(engine.begin(ids, types).ok());
      REQUIRE(engine.run_to(4).ok());
      const auto last = engine.evaluate_exit(2);
      const std::vector<float> expected(last.begin(), last.end());
      for (std::size_t layer = 0; layer < 4; ++layer) {
        CAPTURE(std::string(transport::to_string(dtype)));
        CAPTURE(tokens);
        CAPTURE(layer);
        REQUIRE(engine.begin(ids, types).ok());
        REQUIRE(engine.run_to(layer).ok());
        OffloadRequest request;
        request.layer = layer;
        request.tokens = tokens;
        if (layer > 0) request.activation = engine.activation();
        request.ids = ids;
        request.types = types;
        const OffloadOutcome outcome = client->offload(request, kPatienceUs);
        REQUIRE_MESSAGE(testing::to_string(outcome.kind) == "reply", outcome.reason);
        const bool exact = dtype == Dtype::kF32 || layer == 0;
        const float tolerance = exact ? 0.0f : dtype == Dtype::kF16 ? 0.002f : 0.05f;
        CHECK(distance(outcome.reply.probabilities, expected) <= tolerance);
      }
    }
  }
}

TEST_CASE("ids and types outside the model's tables are refused") {
  const auto model = random_model();
  ModelServer server(model);
  const auto client = client_of(server, *model);
  const auto kind_of = [&](std::vector<std::int32_t> ids, std::vector<std::int32_t> types) {
    OffloadRequest request;
    request.tokens = ids.size();
    request.ids = ids;
    request.types = types;
    return testing::to_string(client->offload(request, kPatienceUs).kind);
  };
  const auto vocab = static_cast<std::int32_t>(model->config().vocab);
  CHECK(kind_of({0, vocab - 1}, {0, 1}) == "reply");
  CHECK(kind_of({0, vocab}, {0, 0}) == "refused");
  CHECK(kind_of({0, 2'147'483'647}, {0, 0}) == "refused");
  CHECK(kind_of({0, 0}, {0, 2}) == "refused");
  CHECK(kind_of(std::vector<std::int32_t>(25), std::vector<std::int32_t>(25)) == "refused");
  CHECK(kind_of({0, vocab - 1}, {0, 1}) == "reply");
}

}  // namespace splitee::transport
