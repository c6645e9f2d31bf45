// What an offload sends, by what was measured; and what measured power makes of costs.
#include "tools/edge/edge_meter.h"

#include <doctest/doctest.h>

namespace splitee::tools {
namespace {

using transport::Dtype;

constexpr std::size_t kLength = 20, kLayers = 12, kColumns = 64;

// An edge with layers of 1 ms and a server with layers of `server_layer_us`, which was seen to run
// all of them for an input of 200 bytes.
EdgeMeter meter_with(double server_layer_us, std::int64_t link_us, const PayloadOptions& options) {
  runtime::NetworkInfo info;
  runtime::LayerSizes layer;
  layer.cols = kColumns;
  info.sizes.assign(kLayers + 1, layer);
  info.unit_input_bytes = 5;
  EdgeMeter meter(info, options);
  meter.add_sample(kLength);
  Work work{};
  work[policy::LinkCosts::kLayer] = {1, 900.0};
  work[policy::LinkCosts::kHead] = {1, 100.0};
  work[policy::LinkCosts::kExit] = {1, 300.0};
  meter.add_work(work, kLength);
  transport::OffloadOutcome outcome;
  outcome.dtype = Dtype::kInput;
  outcome.link_us = link_us;
  outcome.bytes_sent = 200;
  outcome.reply.server_us = static_cast<std::uint32_t>(server_layer_us * kLayers);
  meter.add_reply(outcome, 0, kLength);
  return meter;
}

const PayloadOptions kAuto{.payload = Payload::kAuto, .activation = std::nullopt};

}  // namespace

TEST_CASE("a bandwidth not known is tried out only where it could matter") {
  // Ten layers of a slow server: worth to know. The smallest activation tells.
  EdgeMeter slow_server = meter_with(2'000, 20'000, kAuto);
  CHECK(slow_server.choose(10, kLength).dtype == Dtype::kInput);
  CHECK(slow_server.choose(10, kLength).dtype == Dtype::kI8);
  CHECK(slow_server.choose(10, kLength).dtype == Dtype::kInput);
  // Of a fast one all layers take less than a tenth of the round trip.
  EdgeMeter fast_server = meter_with(20, 20'000, kAuto);
  for (int i = 0; i < 4; ++i) CHECK(fast_server.choose(10, kLength).dtype == Dtype::kInput);
  CHECK(slow_server.choose(0, kLength).dtype == Dtype::kInput);
}

TEST_CASE("payloads as told are sent as told") {
  EdgeMeter activation =
      meter_with(20, 20'000, {.payload = Payload::kActivation, .activation = Dtype::kF16});
  CHECK(activation.choose(3, kLength).dtype == Dtype::kF16);
  CHECK(activation.choose(3, kLength).layer == 3);
  EdgeMeter input = meter_with(2'000, 20'000, {.payload = Payload::kInput});
  CHECK(input.choose(3, kLength).dtype == Dtype::kInput);
  CHECK(input.choose(3, kLength).layer == 0);
}

TEST_CASE("offloads cost in lambda what they take in layers' time") {
  EdgeMeter meter = meter_with(20, 20'000, kAuto);
  policy::CostModel costs{.lambda1 = 0.1, .offload = 9.0};
  meter.price(1.0, costs);
  CHECK(costs.lambda1 == doctest::Approx(0.09));
  CHECK(costs.lambda2 == doctest::Approx(0.01));
  // 20 ms of link and 0.24 ms of server, a layer with its exit being 1 ms.
  CHECK(costs.offload_from(0) == doctest::Approx(2.02).epsilon(0.02));
}

}  // namespace splitee::tools
