// The server over a model of texts: ids and types that its tables do not have.
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "runtime/bert/model.h"
#include "runtime/bert/text_input.h"
#include "tests/runtime/any_network.h"
#include "tests/transport/network_server.h"

namespace splitee::transport {

using namespace testing;

TEST_CASE("ids and types outside the model's tables are refused") {
  const auto network = runtime::testing::network_of(runtime::testing::random_model({}));
  NetworkServer server(network);
  const auto client = client_of(server, *network);
  const auto kind_of = [&](std::vector<std::int32_t> ids, std::vector<std::int32_t> types) {
    OffloadRequest request;
    const runtime::Prepared input = runtime::pack(ids, types);
    request.input = input.view();
    return testing::to_string(client->offload(request, kPatienceUs).kind);
  };
  const std::int32_t vocab = 11, positions = 9;  // of the random model
  CHECK(kind_of({0, vocab - 1}, {0, 1}) == "reply");
  CHECK(kind_of({0, vocab}, {0, 0}) == "refused");
  CHECK(kind_of({0, 2'147'483'647}, {0, 0}) == "refused");
  CHECK(kind_of({0, -1}, {0, 0}) == "refused");
  CHECK(kind_of({0, 0}, {0, 2}) == "refused");
  CHECK(kind_of(std::vector<std::int32_t>(positions + 1),
                std::vector<std::int32_t>(positions + 1)) == "refused");
  CHECK(kind_of({0, vocab - 1}, {0, 1}) == "reply");
}

}  // namespace splitee::transport
