#include "transport/server_core.h"

#include <algorithm>
#include <exception>

#include "runtime/hash.h"

namespace splitee::transport {
namespace {

using runtime::Result;
using runtime::Status;

Refusal expired_refusal() {
  return {RefuseCode::kExpired, "the deadline passed before the work"};
}

// The reply's probabilities come from our own model, whose weights are a file: they may be NaN.
std::variant<Reply, Refusal> to_reply(std::vector<float> probabilities) {
  Reply reply;
  reply.probabilities = std::move(probabilities);
  const auto largest = std::max_element(reply.probabilities.begin(), reply.probabilities.end());
  const bool good = !reply.probabilities.empty() && all_finite(reply.probabilities);
  if (!good) return Refusal{RefuseCode::kInternal, "the model gave no probabilities"};
  reply.class_index = static_cast<std::uint32_t>(largest - reply.probabilities.begin());
  reply.confidence = *largest;
  return reply;
}

// Views or decodes the values of a request. Only what does not depend on the model is checked.
Status prepare(const Infer& infer, Scratch& scratch, BackendRequest& request) {
  request.layer = infer.layer;
  request.tokens = infer.tokens;
  if (infer.dtype == Dtype::kTokens) {
    scratch.ids.resize(infer.tokens);
    scratch.types.resize(infer.tokens);
    request.ids = scratch.ids;
    request.types = scratch.types;
    return read_tokens(infer, scratch.ids, scratch.types);
  }
  if (const auto view = view_activation(infer)) {
    request.activation = *view;
    if (all_finite(*view)) return {};
    return {runtime::Code::kCorrupt, "activation is not finite"};
  }
  scratch.activation.resize(std::size_t{infer.tokens} * infer.hidden);
  request.activation = scratch.activation;
  return read_activation(infer, scratch.activation);
}

std::variant<Reply, Refusal> run(const Job& job, Backend& backend, Scratch& scratch) {
  BackendRequest request;
  if (Status status = prepare(job.infer, scratch, request); !status.ok()) {
    return Refusal{RefuseCode::kBadRequest, status.message()};
  }
  Result<std::vector<float>> probabilities = backend.run(request);
  // The model's own message is not repeated: it may name what is not the peer's business.
  if (!probabilities.ok()) {
    return Refusal{RefuseCode::kBadRequest, "the model does not take these values"};
  }
  return to_reply(std::move(*probabilities));
}

}  // namespace

Answer execute(const Job& job, Backend& backend, Scratch& scratch, std::int64_t now_us) {
  Answer answer{job.address, job.received_us, Refusal{}};
  if (job.expires_us <= now_us) {
    answer.body = expired_refusal();
    return answer;
  }
  try {
    answer.body = run(job, backend, scratch);
  } catch (const std::exception&) {
    answer.body = Refusal{RefuseCode::kInternal, "out of resources"};
  }
  return answer;
}

ServerCore::ServerCore(const ModelShape& shape, const ServerOptions& options, JobQueue& queue,
                       ServerCounters& counters)
    : shape_(shape),
      max_window_(options.max_window),
      queue_(queue),
      counters_(counters),
      sessions_(options.max_sessions) {}

Envelope ServerCore::envelope(std::uint64_t request_id, std::int64_t now_us) const {
  return {request_id, shape_.model_hash, static_cast<std::uint64_t>(now_us)};
}

Frames ServerCore::refuse(std::uint64_t request_id, Refusal refusal, std::int64_t now_us) {
  ++counters_.refusals;
  if (refusal.code == RefuseCode::kBusy) ++counters_.busy;
  if (refusal.code == RefuseCode::kExpired) ++counters_.expired;
  return encode(envelope(request_id, now_us), refusal);
}

Frames ServerCore::refuse_bad(std::uint64_t request_id, std::string text, std::int64_t now_us) {
  ++counters_.bad_frames;
  return refuse(request_id, {RefuseCode::kBadRequest, std::move(text)}, now_us);
}

std::optional<Frames> ServerCore::receive(const Incoming& incoming, std::int64_t now_us,
                                          std::vector<Answer>& expired) {
  Result<Message> message = decode(incoming.frames);
  if (!message.ok()) return on_invalid(incoming, message.status(), now_us);
  const Envelope& from = message->envelope;
  if (const auto* infer = std::get_if<Infer>(&message->body)) {
    return on_infer(incoming, from, *infer, now_us, expired);
  }
  if (const auto* hello = std::get_if<Hello>(&message->body)) {
    return on_hello(incoming, from, *hello, now_us);
  }
  if (std::holds_alternative<Ping>(message->body)) {
    return encode({from.request_id, 0, static_cast<std::uint64_t>(now_us)}, Pong{});
  }
  // Answering an answer could go round in circles.
  ++counters_.bad_frames;
  return std::nullopt;
}

Frames ServerCore::on_invalid(const Incoming& incoming, const Status& status, std::int64_t now_us) {
  const std::uint64_t id =
      incoming.frames.empty() ? 0 : readable_request_id(incoming.frames.front());
  if (status.code() != runtime::Code::kUnsupported) return refuse_bad(id, status.message(), now_us);
  ++counters_.bad_frames;
  return refuse(id, {RefuseCode::kUnsupportedVersion, status.message()}, now_us);
}

Frames ServerCore::on_hello(const Incoming& incoming, const Envelope& from, const Hello& hello,
                            std::int64_t now_us) {
  const std::uint64_t id = from.request_id;
  if (shutting_down_) return refuse(id, {RefuseCode::kShuttingDown, ""}, now_us);
  if (hello.lowest_version > kProtocolVersion || hello.highest_version < kProtocolVersion) {
    return refuse(id, {RefuseCode::kUnsupportedVersion, "this server speaks version 1"}, now_us);
  }
  if (from.model_hash != shape_.model_hash) {
    return refuse(id, *check(from, {}), now_us);
  }
  const Session* old = sessions_.find(incoming.peer, incoming.user);
  if (old != nullptr && id <= old->last_request_id) {
    return refuse_bad(id, "request id does not grow", now_us);
  }
  const std::uint32_t in_flight = old != nullptr ? old->in_flight : 0;
  const std::uint64_t serial = old != nullptr ? old->serial : 0;
  Session& session = sessions_.start(incoming.peer, incoming.user);
  // A second hello renews the session; what is in flight still belongs to it.
  if (serial != 0) session.serial = serial;
  session.in_flight = in_flight;
  session.last_request_id = id;
  session.window = std::min(hello.window, max_window_);
  session.delay.measure(from.clock_us, now_us);
  ++counters_.hellos;
  counters_.sessions = sessions_.size();
  Welcome welcome;
  welcome.max_tokens = static_cast<std::uint32_t>(shape_.max_tokens);
  welcome.layers = static_cast<std::uint32_t>(shape_.layers);
  welcome.hidden = static_cast<std::uint32_t>(shape_.hidden);
  welcome.classes = static_cast<std::uint32_t>(shape_.classes);
  welcome.window = session.window;
  return encode(envelope(id, now_us), welcome);
}

// Every request is checked against the model again, whatever the hello said.
std::optional<Refusal> ServerCore::check(const Envelope& from, const Infer& infer) const {
  if (from.model_hash != shape_.model_hash) {
    return Refusal{RefuseCode::kWrongModel,
                   "the edge has " + runtime::hash_to_string(from.model_hash) + ", the server " +
                       runtime::hash_to_string(shape_.model_hash)};
  }
  const auto bad = [](const char* text) { return Refusal{RefuseCode::kBadRequest, text}; };
  if (infer.layer >= shape_.layers) return bad("no layer is left after this one");
  if (infer.tokens > shape_.max_tokens) return bad("more tokens than the model takes");
  if (infer.layer != 0 && infer.hidden != shape_.hidden) return bad("hidden size of the model");
  return std::nullopt;
}

std::optional<Frames> ServerCore::on_infer(const Incoming& incoming, const Envelope& from,
                                           const Infer& infer, std::int64_t now_us,
                                           std::vector<Answer>& expired) {
  const std::uint64_t id = from.request_id;
  ++counters_.requests;
  Session* session = sessions_.find(incoming.peer, incoming.user);
  if (session == nullptr) {
    return refuse(id, {RefuseCode::kNoSession, "say hello first"}, now_us);
  }
  if (id <= session->last_request_id) return refuse_bad(id, "request id does not grow", now_us);
  session->last_request_id = id;
  if (std::optional<Refusal> refusal = check(from, infer)) {
    ++counters_.bad_frames;
    return refuse(id, std::move(*refusal), now_us);
  }
  const std::int64_t on_the_way_us = session->delay.measure(from.clock_us, now_us);
  const std::int64_t left_us = static_cast<std::int64_t>(infer.deadline_us) - on_the_way_us;
  if (left_us <= 0) return refuse(id, expired_refusal(), now_us);
  if (shutting_down_) return refuse(id, {RefuseCode::kShuttingDown, ""}, now_us);
  if (session->in_flight >= session->window) {
    return refuse(id, {RefuseCode::kBusy, "more requests in flight than the window"}, now_us);
  }
  const auto push = [&] {
    return queue_.push({{std::string(incoming.peer), session->serial, id},
                        infer,
                        incoming.owner,
                        now_us,
                        now_us + left_us});
  };
  if (!push()) {
    for (const Job& job : queue_.take_expired(now_us)) {
      expired.push_back({job.address, job.received_us, expired_refusal()});
    }
    if (expired.empty() || !push()) return refuse(id, {RefuseCode::kBusy, "queue full"}, now_us);
  }
  ++session->in_flight;
  ++outstanding_;
  ++counters_.in_flight;
  counters_.queued = queue_.size();
  return std::nullopt;
}

std::optional<Frames> ServerCore::complete(const Answer& answer, std::int64_t now_us) {
  SPLITEE_CHECK(outstanding_ > 0);
  --outstanding_;
  --counters_.in_flight;
  counters_.queued = queue_.size();
  const Address& to = answer.address;
  Session* session = sessions_.find_serial(to.peer, to.session);
  if (session == nullptr) {
    ++counters_.undeliverable;
    return std::nullopt;
  }
  --session->in_flight;
  if (const auto* refusal = std::get_if<Refusal>(&answer.body)) {
    return refuse(to.request_id, *refusal, now_us);
  }
  Reply reply = std::get<Reply>(answer.body);
  reply.server_us = static_cast<std::uint32_t>(
      std::clamp<std::int64_t>(now_us - answer.received_us, 0, UINT32_MAX));
  ++counters_.replies;
  return encode(envelope(to.request_id, now_us), reply);
}

}  // namespace splitee::transport
