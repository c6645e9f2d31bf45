#include "transport/server/server_core.h"

#include <algorithm>
#include <exception>
#include <new>

#include "base/floats.h"
#include "base/hash.h"

namespace splitee::transport {
namespace {

Refusal refusal_of(Shed reason) {
  switch (reason) {
    case Shed::kQueueFull:
      return {RefuseCode::kBusy, "queue full"};
    case Shed::kPeerFull:
      return {RefuseCode::kBusy, "too many bytes of this edge wait"};
    case Shed::kWindow:
      return {RefuseCode::kBusy, "more requests in flight than the window"};
    case Shed::kWouldBeLate:
      return {RefuseCode::kBusy, "the queue is longer than the deadline"};
    case Shed::kMadeRoom:
      return {RefuseCode::kBusy, "made room for another edge"};
    case Shed::kLateOnArrival:
    case Shed::kLateInQueue:
      return {RefuseCode::kExpired, "the deadline passed before the work"};
    case Shed::kShuttingDown:
      return {RefuseCode::kShuttingDown, ""};
  }
  return {RefuseCode::kInternal, ""};
}

// The text of a refusal is found when it is sent: so nothing is allocated here.
Answer answer_to(const Job& job, Address address) {
  Answer answer;
  answer.address = std::move(address);
  answer.model_hash = job.model->shape.model_hash;
  answer.received_us = job.received_us;
  answer.body = Refusal{RefuseCode::kInternal, ""};
  return answer;
}

Answer shed_answer(const Job& job, Address address, Shed reason) {
  Answer answer = answer_to(job, std::move(address));
  answer.shed = reason;
  return answer;
}

Refusal refusal_of(const Answer& answer) {
  if (answer.shed) return refusal_of(*answer.shed);
  Refusal refusal = std::get<Refusal>(answer.body);
  if (refusal.text.empty()) refusal.text = "out of resources";
  return refusal;
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
Status prepare(const Infer& infer, Scratch::Values& values, BackendRequest& request) {
  request.layer = infer.layer;
  request.rows = infer.rows;
  if (infer.dtype == Dtype::kInput) {
    request.input = {infer.rows, infer.payload};
    return check_input(infer);
  }
  if (const auto view = view_activation(infer)) {
    request.activation = *view;
    return check_view(infer, *view);
  }
  values.activation.resize(std::size_t{infer.rows} * infer.cols);
  request.activation = values.activation;
  return read_activation(infer, values.activation);
}

// The requests of a batch that are to be run, and whose they are.
struct Runnable {
  std::vector<BackendRequest> requests;
  std::vector<std::size_t> jobs;
};

// Whose fault it is that a request was not run. The model's own message is not repeated: it may
// name what is not the peer's business.
Refusal refusal_of(const Status& status, std::string& fault) {
  if (status.code() == Code::kInvalidArgument) {
    return {RefuseCode::kBadRequest, "the model does not take these values"};
  }
  fault = status.message();
  return {RefuseCode::kInternal, "the server cannot run its model"};
}

// A request that cannot be prepared is answered here, or, where memory is out, as it was before.
void add(Runnable& runnable, const Job& job, std::size_t index, Scratch::Values& values,
         Executed& executed) {
  try {
    BackendRequest request;
    const Status status = prepare(job.infer, values, request);
    if (!status.ok()) {
      executed.answers[index].body = Refusal{RefuseCode::kBadRequest, status.message()};
      return;
    }
    runnable.jobs.reserve(runnable.jobs.size() + 1);
    runnable.requests.push_back(request);
    runnable.jobs.push_back(index);
    executed.run_work += job.work;
  } catch (const std::bad_alloc&) {
    executed.fault = "out of memory";
  }
}

void run(const Runnable& runnable, Backend& backend, Executed& executed) {
  std::vector<Result<std::vector<float>>> results = backend.run_batch(runnable.requests);
  SPLITEE_CHECK(results.size() == runnable.jobs.size());
  for (std::size_t i = 0; i < results.size(); ++i) {
    Answer& answer = executed.answers[runnable.jobs[i]];
    if (results[i].ok()) {
      answer.body = to_reply(std::move(*results[i]));
      if (const auto* refusal = std::get_if<Refusal>(&answer.body)) executed.fault = refusal->text;
    } else {
      answer.body = refusal_of(results[i].status(), executed.fault);
    }
  }
}

}  // namespace

SchedulerLimits limits_of(const ServerOptions& options) {
  SchedulerLimits limits;
  limits.max_jobs = options.max_queue;
  limits.max_bytes = options.max_queue_bytes;
  limits.max_flow_bytes = options.max_edge_bytes;
  limits.workers = options.threads;
  limits.max_batch = options.max_batch;
  limits.max_batch_rows = options.max_batch_rows;
  return limits;
}

Executed execute(std::span<const Job> jobs, Backend& backend, Scratch& scratch,
                 std::int64_t now_us) {
  Executed executed;
  executed.answers.reserve(jobs.size());
  for (const Job& job : jobs) {
    const bool late = job.expires_us <= now_us;
    executed.answers.push_back(late ? shed_answer(job, job.address, Shed::kLateInQueue)
                                    : answer_to(job, job.address));
    if (!late) executed.answers.back().started_us = now_us;
  }
  // From here on, what fails is answered as out of resources.
  try {
    Runnable runnable;
    if (scratch.values.size() < jobs.size()) scratch.values.resize(jobs.size());
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      if (!executed.answers[i].shed) add(runnable, jobs[i], i, scratch.values[i], executed);
    }
    if (!runnable.requests.empty()) run(runnable, backend, executed);
  } catch (const std::exception& error) {
    executed.fault = error.what();
  }
  return executed;
}

std::vector<Answer> refuse_all(std::span<const Job> jobs, Shed reason) {
  std::vector<Answer> answers;
  for (const Job& job : jobs) answers.push_back(shed_answer(job, job.address, reason));
  return answers;
}

ServerCore::ServerCore(std::shared_ptr<ServedModel> model, const ServerOptions& options,
                       JobQueue& queue, ServerCounters& counters)
    : max_window_(options.max_window),
      queue_(queue),
      counters_(counters),
      sessions_(options.max_sessions) {
  set_model(std::move(model));
}

void ServerCore::set_model(std::shared_ptr<ServedModel> model) {
  model_ = std::move(model);
  counters_.model_hash = model_->shape.model_hash;
}

Envelope ServerCore::envelope(std::uint64_t request_id, std::int64_t now_us) const {
  return {request_id, model_->shape.model_hash, static_cast<std::uint64_t>(now_us)};
}

void ServerCore::count_refusal(const Refusal& refusal) {
  ++counters_.refusals;
  if (refusal.code == RefuseCode::kBusy) ++counters_.busy;
  if (refusal.code == RefuseCode::kExpired) ++counters_.expired;
  ++counters_.refused_by_code[static_cast<std::size_t>(refusal.code)];
}

Frames ServerCore::refuse(std::uint64_t request_id, const Refusal& refusal, std::int64_t now_us) {
  count_refusal(refusal);
  return encode(envelope(request_id, now_us), refusal);
}

Frames ServerCore::refuse_bad(std::uint64_t request_id, std::string text, std::int64_t now_us) {
  ++counters_.bad_frames;
  return refuse(request_id, {RefuseCode::kBadRequest, std::move(text)}, now_us);
}

Frames ServerCore::shed(const Session& session, std::uint64_t request_id, Shed reason,
                        std::int64_t now_us) {
  ++counters_.sheds[static_cast<std::size_t>(reason)];
  if (session.edge != nullptr) ++session.edge->sheds;
  return refuse(request_id, refusal_of(reason), now_us);
}

void ServerCore::count_queue() {
  counters_.queued = queue_.size();
  counters_.queued_bytes = queue_.bytes();
}

std::optional<Frames> ServerCore::receive(const Incoming& incoming, std::int64_t now_us,
                                          std::vector<Answer>& dropped) {
  Result<Message> message = decode_deferred(incoming.frames);
  if (!message.ok()) return on_invalid(incoming, message.status(), now_us);
  try {
    return handle(incoming, *message, now_us, dropped);
  } catch (const std::bad_alloc&) {
    // Nothing was accepted. Where even this finds no memory, the edge waits until its deadline.
    return refuse(message->envelope.request_id, {RefuseCode::kInternal, "out of memory"}, now_us);
  }
}

std::optional<Frames> ServerCore::handle(const Incoming& incoming, const Message& message,
                                         std::int64_t now_us, std::vector<Answer>& dropped) {
  const Envelope& from = message.envelope;
  if (const auto* infer = std::get_if<Infer>(&message.body)) {
    return on_infer(incoming, from, *infer, now_us, dropped);
  }
  if (const auto* hello = std::get_if<Hello>(&message.body)) {
    return on_hello(incoming, from, *hello, now_us);
  }
  if (std::holds_alternative<Ping>(message.body)) {
    return encode({from.request_id, 0, static_cast<std::uint64_t>(now_us)}, Pong{});
  }
  // Answering an answer could go round in circles.
  ++counters_.bad_frames;
  return std::nullopt;
}

Frames ServerCore::on_invalid(const Incoming& incoming, const Status& status, std::int64_t now_us) {
  const std::uint64_t id =
      incoming.frames.empty() ? 0 : readable_request_id(incoming.frames.front());
  if (status.code() != Code::kUnsupported) return refuse_bad(id, status.message(), now_us);
  ++counters_.bad_frames;
  const Refusal refusal{RefuseCode::kUnsupportedVersion, status.message()};
  if (readable_version(incoming.frames.front()) != 1) return refuse(id, refusal, now_us);
  count_refusal(refusal);
  return encode_for_version_1(envelope(id, now_us), refusal);
}

Frames ServerCore::on_hello(const Incoming& incoming, const Envelope& from, const Hello& hello,
                            std::int64_t now_us) {
  const std::uint64_t id = from.request_id;
  if (shutting_down_) return refuse(id, {RefuseCode::kShuttingDown, ""}, now_us);
  if (hello.lowest_version > kProtocolVersion || hello.highest_version < kProtocolVersion) {
    return refuse(id,
                  {RefuseCode::kUnsupportedVersion,
                   "the edge speaks protocol versions " + std::to_string(hello.lowest_version) +
                       " to " + std::to_string(hello.highest_version) + ", this server " +
                       std::to_string(kProtocolVersion)},
                  now_us);
  }
  const ModelShape& shape = model_->shape;
  if (from.model_hash != shape.model_hash) return refuse(id, *check(from, {}), now_us);
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
  session.edge = counters_.edges.find(session.user);
  ++counters_.hellos;
  counters_.sessions = sessions_.size();
  Welcome welcome;
  welcome.max_length = static_cast<std::uint32_t>(shape.max_length);
  welcome.layers = static_cast<std::uint32_t>(shape.layers());
  welcome.input_kind = static_cast<std::uint32_t>(shape.input);
  welcome.classes = static_cast<std::uint32_t>(shape.classes);
  welcome.window = session.window;
  return encode(envelope(id, now_us), welcome);
}

// Every request is checked against the model again, whatever the hello said.
std::optional<Refusal> ServerCore::check(const Envelope& from, const Infer& infer) const {
  const ModelShape& shape = model_->shape;
  if (from.model_hash != shape.model_hash) {
    return Refusal{RefuseCode::kWrongModel, "the edge has " + hash_to_string(from.model_hash) +
                                                ", the server " + hash_to_string(shape.model_hash)};
  }
  const auto bad = [](const char* text) { return Refusal{RefuseCode::kBadRequest, text}; };
  if (infer.layer >= shape.layers()) return bad("no layer is left after this one");
  if (infer.layer > 0) {
    if (infer.rows > shape.max_rows(infer.layer)) return bad("more rows than the model takes");
    if (!shape.fits(infer.layer, infer.rows, infer.cols))
      return bad("shape of this layer's output");
    return std::nullopt;
  }
  if (infer.rows > shape.max_length) return bad("a longer input than the model takes");
  if (infer.payload.size() > shape.max_input_bytes) return bad("more bytes than an input has");
  if (infer.cols != static_cast<std::uint32_t>(shape.input)) return bad("kind of the input");
  return std::nullopt;
}

std::optional<Frames> ServerCore::on_infer(const Incoming& incoming, const Envelope& from,
                                           const Infer& infer, std::int64_t now_us,
                                           std::vector<Answer>& dropped) {
  const std::uint64_t id = from.request_id;
  ++counters_.requests;
  Session* session = sessions_.find(incoming.peer, incoming.user);
  if (session == nullptr) {
    return refuse(id, {RefuseCode::kNoSession, "say hello first"}, now_us);
  }
  if (session->edge != nullptr) {
    ++session->edge->requests;
    session->edge->bytes_in += kHeaderBytes + infer.payload.size();
  }
  if (id <= session->last_request_id) return refuse_bad(id, "request id does not grow", now_us);
  session->last_request_id = id;
  if (std::optional<Refusal> refusal = check(from, infer)) {
    ++counters_.bad_frames;
    return refuse(id, *refusal, now_us);
  }
  const std::int64_t on_the_way_us = session->delay.measure(from.clock_us, now_us);
  const std::int64_t left_us = static_cast<std::int64_t>(infer.deadline_us) - on_the_way_us;
  if (left_us <= 0) return shed(*session, id, Shed::kLateOnArrival, now_us);
  if (shutting_down_) return shed(*session, id, Shed::kShuttingDown, now_us);
  if (session->in_flight >= session->window) return shed(*session, id, Shed::kWindow, now_us);
  return admit(incoming, *session, id, infer, left_us, now_us, dropped);
}

std::optional<Frames> ServerCore::admit(const Incoming& incoming, Session& session,
                                        std::uint64_t id, const Infer& infer, std::int64_t left_us,
                                        std::int64_t now_us, std::vector<Answer>& dropped) {
  Job job;
  job.address = {std::string(incoming.peer), session.serial, id};
  job.flow = incoming.user.empty() ? incoming.peer : incoming.user;
  job.infer = infer;
  job.owner = incoming.owner;
  job.model = model_;
  job.length = model_->shape.length_of(infer.layer, infer.rows);
  job.work = model_->shape.work(infer.layer, job.length);
  job.received_us = now_us;
  job.expires_us = now_us + left_us;
  std::vector<Job> expired, displaced;
  Admission admission;
  try {
    admission = queue_.push(std::move(job), now_us, expired, displaced);
  } catch (const std::bad_alloc&) {
    drop(expired, Shed::kLateInQueue, dropped);
    drop(displaced, Shed::kMadeRoom, dropped);
    throw;
  }
  if (admission == Admission::kTaken) {
    ++session.in_flight;
    ++outstanding_;
    ++counters_.in_flight;
    count_queue();
  }
  drop(expired, Shed::kLateInQueue, dropped);
  drop(displaced, Shed::kMadeRoom, dropped);
  switch (admission) {
    case Admission::kTaken:
      break;
    case Admission::kFull:
      return shed(session, id, Shed::kQueueFull, now_us);
    case Admission::kFlowFull:
      return shed(session, id, Shed::kPeerFull, now_us);
    case Admission::kWouldBeLate:
      return shed(session, id, Shed::kWouldBeLate, now_us);
  }
  return std::nullopt;
}

// Where memory is out for their answers, they end without: their edges wait until their deadlines.
void ServerCore::drop(std::vector<Job>& jobs, Shed reason, std::vector<Answer>& dropped) {
  try {
    dropped.reserve(dropped.size() + jobs.size());
  } catch (const std::bad_alloc&) {
    for (Job& job : jobs) {
      count_completed(shed_answer(job, std::move(job.address), reason));
      ++counters_.undeliverable;
    }
    return;
  }
  for (Job& job : jobs) {
    Address address = std::move(job.address);
    dropped.push_back(shed_answer(job, std::move(address), reason));
  }
}

// The session that is to be told; null where it is over.
Session* ServerCore::count_completed(const Answer& answer) {
  SPLITEE_CHECK(outstanding_ > 0);
  --outstanding_;
  --counters_.in_flight;
  count_queue();
  if (answer.shed) ++counters_.sheds[static_cast<std::size_t>(*answer.shed)];
  if (answer.started_us >= 0) {
    counters_.queue_us.add(answer.started_us - answer.received_us);
    counters_.service_us.add(answer.service_us);
  }
  Session* session = sessions_.find_serial(answer.address.peer, answer.address.session);
  if (session == nullptr) return nullptr;
  --session->in_flight;
  if (answer.shed && session->edge != nullptr) ++session->edge->sheds;
  return session;
}

std::optional<Frames> ServerCore::complete(const Answer& answer, std::int64_t now_us) {
  const Session* session = count_completed(answer);
  if (session == nullptr) {
    ++counters_.undeliverable;
    return std::nullopt;
  }
  // From the model that the request was for: an edge must not take it for the present one's.
  const Envelope from{answer.address.request_id, answer.model_hash,
                      static_cast<std::uint64_t>(now_us)};
  if (answer.shed || std::holds_alternative<Refusal>(answer.body)) {
    const Refusal refusal = refusal_of(answer);
    if (refusal.code == RefuseCode::kBadRequest) ++counters_.bad_frames;
    count_refusal(refusal);
    return encode(from, refusal);
  }
  const std::int64_t total_us = now_us - answer.received_us;
  Reply reply = std::get<Reply>(answer.body);
  reply.server_us = static_cast<std::uint32_t>(std::clamp<std::int64_t>(total_us, 0, UINT32_MAX));
  ++counters_.replies;
  counters_.total_us.add(total_us);
  if (session->edge != nullptr) ++session->edge->replies;
  return encode(from, reply);
}

}  // namespace splitee::transport
