// The server over real networks of every kind: what comes back is what the edge would have computed
// itself.
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/runtime/any_network.h"
#include "tests/transport/network_server.h"

namespace splitee::transport {

using namespace testing;

TEST_CASE("a sample split between edge and server gives the same probabilities") {
  for (const auto& network : runtime::testing::every_network()) {
    const runtime::NetworkInfo& info = network->info();
    CAPTURE(info.architecture);
    NetworkServer server(network);
    const auto engine = network->make_engine();
    for (const Dtype dtype : {Dtype::kF32, Dtype::kF16, Dtype::kI8}) {
      const auto client = client_of(server, *network, dtype);
      for (const std::size_t number : {0, 2, 4}) {
        const auto input = network->prepare(runtime::testing::any_input(*network, number));
        REQUIRE(input.ok());
        REQUIRE(engine->begin(input->view()).ok());
        REQUIRE(engine->run_to(info.layers()).ok());
        const auto last = engine->evaluate_exit(info.exits() - 1);
        const std::vector<float> expected(last.begin(), last.end());
        for (std::size_t layer = 0; layer < info.layers(); ++layer) {
          CAPTURE(std::string(transport::to_string(dtype)));
          CAPTURE(number);
          CAPTURE(layer);
          REQUIRE(engine->begin(input->view()).ok());
          REQUIRE(engine->run_to(layer).ok());
          OffloadRequest request;
          request.layer = layer;
          request.shape = info.shape(layer, input->length);
          if (layer > 0) request.activation = engine->activation();
          request.input_kind = info.input;
          request.input = input->view();
          const OffloadOutcome outcome = client->offload(request, kPatienceUs);
          REQUIRE_MESSAGE(testing::to_string(outcome.kind) == "reply", outcome.reason);
          const bool exact = dtype == Dtype::kF32 || layer == 0;
          const float tolerance = exact ? 0.0f : dtype == Dtype::kF16 ? 0.002f : 0.05f;
          CHECK(distance(outcome.reply.probabilities, expected) <= tolerance);
        }
      }
    }
  }
}

TEST_CASE("an input that the network does not take is refused, and the next one answered") {
  for (const auto& network : runtime::testing::every_network()) {
    CAPTURE(network->info().architecture);
    NetworkServer server(network);
    const auto client = client_of(server, *network);
    const auto good = network->prepare(runtime::testing::any_input(*network, 3));
    REQUIRE(good.ok());
    const auto kind_of = [&](runtime::PreparedView input, runtime::InputKind kind) {
      OffloadRequest request;
      request.input_kind = kind;
      request.input = input;
      const OffloadOutcome outcome = client->offload(request, kPatienceUs);
      // It is the request's fault, not the server's.
      CHECK_MESSAGE(outcome.reason.find("cannot run its model") == std::string::npos,
                    outcome.reason);
      return testing::to_string(outcome.kind);
    };
    const runtime::InputKind kind = network->info().input;
    CHECK(kind_of(good->view(), kind) == "reply");
    // All bits set: no word has such a number, no such number is finite, no picture begins so.
    const std::vector<std::byte> odd(good->bytes.size(), std::byte{0xff});
    CHECK(kind_of({good->length, odd}, kind) == "refused");
    CHECK(kind_of({good->length, std::span(good->bytes).first(good->bytes.size() - 1)}, kind) ==
          "refused");
    const bool image = kind == runtime::InputKind::kImage;
    CHECK(kind_of(good->view(), image ? runtime::InputKind::kText : runtime::InputKind::kImage) ==
          "refused");
    CHECK(kind_of({100'000, good->bytes}, kind) == "refused");
    CHECK(kind_of(good->view(), kind) == "reply");
  }
}

}  // namespace splitee::transport
