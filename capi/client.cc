// The link to servers.
#include "base/clock.h"
#include "capi/handles.h"

namespace splitee::capi {
namespace {

// The activation's floats, or the prepared input, as the wire sends them.
Result<transport::OffloadRequest> request_of(const runtime::NetworkInfo& info,
                                             const splitee_payload& payload) {
  if (payload.data == nullptr) return invalid("data is NULL");
  if (payload.length == 0 || payload.length > info.max_length) return invalid("length");
  transport::OffloadRequest request;
  request.layer = payload.layer;
  if (payload.layer == 0) {
    if (payload.rows != 0) return invalid("layer 0: the prepared input is sent, no activation");
    request.input_kind = info.input;
    request.input = {payload.length, {static_cast<const std::byte*>(payload.data), payload.bytes}};
    return request;
  }
  if (payload.layer >= info.layers()) return invalid("no layer is left to run");
  request.shape = info.shape(payload.layer, payload.length);
  const bool fits = request.shape == runtime::Shape{payload.rows, payload.cols} &&
                    payload.bytes == request.shape.size() * sizeof(float);
  if (!fits) return invalid("rows, cols and bytes do not fit the layer and the length");
  request.activation = {static_cast<const float*>(payload.data), request.shape.size()};
  return request;
}

int offload(splitee_client& handle, const splitee_payload& payload, std::int64_t deadline_ms,
            float* probabilities, std::size_t count, splitee_reply* reply) {
  constexpr std::int64_t kMostMs = 3'600'000;
  const runtime::NetworkInfo& info = handle.network->info();
  const auto request = request_of(info, payload);
  if (!request.ok()) return fail(request.status());
  if (deadline_ms < 1 || deadline_ms > kMostMs) return fail(invalid("deadline_ms: 1 to 3600000"));
  if (count < info.classes()) return fail(invalid("count is less than the classes"));
  const transport::OffloadOutcome outcome = handle.client->offload(*request, deadline_ms * 1000);
  if (outcome.kind != transport::OffloadOutcome::Kind::kReply) {
    return fail(SPLITEE_NO_ANSWER, outcome.reason);
  }
  Status status = copy_probabilities(outcome.reply.probabilities, probabilities, count);
  if (!status.ok() || reply == nullptr) return fail(status);
  splitee_reply filled{};
  filled.class_index = outcome.reply.class_index;
  filled.confidence = outcome.reply.confidence;
  filled.link_us = outcome.link_us;
  filled.server_us = outcome.reply.server_us;
  filled.bytes_sent = outcome.bytes_sent;
  return fail(give(filled, reply));
}

}  // namespace

Result<std::shared_ptr<transport::Client>> make_client(const runtime::Network& network,
                                                       const tools::EdgeOptions& options) {
  auto client = tools::make_client(options, network);
  if (!client.ok()) return client.status();
  if (*client == nullptr) return std::shared_ptr<transport::Client>();
  const bool there =
      (*client)->wait_available(static_cast<std::int64_t>(options.connect_ms) * 1000);
  if (!there && options.require_server) {
    return Status(Code::kIo, "require-server: no server within " +
                                 std::to_string(options.connect_ms) +
                                 " ms: " + (*client)->last_problem());
  }
  return std::shared_ptr<transport::Client>(std::move(*client));
}

}  // namespace splitee::capi

using namespace splitee::capi;
using splitee::Status;

int splitee_client_create(const splitee_model* model, const char* const* options,
                          splitee_client** client) {
  return guarded([&]() -> Status {
    if (model == nullptr || client == nullptr) return invalid("model or client is NULL");
    splitee::tools::EdgeOptions parsed;
    Status status = parse_edge_words(words_of(options), splitee::tools::kLinkWords, parsed);
    if (!status.ok()) return status;
    if (parsed.servers.empty()) return invalid("a client needs the option server=ENDPOINT");
    auto made = make_client(*model->network, parsed);
    if (!made.ok()) return made.status();
    auto handle = std::make_unique<splitee_client>();
    handle->network = model->network;
    handle->client = std::move(*made);
    *client = handle.release();
    return {};
  });
}

int splitee_client_offload(splitee_client* client, const splitee_payload* payload,
                           int64_t deadline_ms, float* probabilities, size_t count,
                           splitee_reply* reply) {
  return guarded([&]() -> int {
    splitee_payload given;
    if (client == nullptr) return fail(invalid("client is NULL"));
    if (Status status = take(payload, given); !status.ok()) return fail(status);
    return offload(*client, given, deadline_ms, probabilities, count, reply);
  });
}
