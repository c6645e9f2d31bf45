#include "tools/edge/edge_loop.h"

#include <algorithm>

#include "tools/common/console.h"

namespace splitee::tools {

using policy::EpisodeRunner;
using policy::LinkState;
using policy::Outcome;
using policy::Route;
using transport::OffloadOutcome;
using transport::OffloadRequest;

namespace {

// Nothing ends a wait but an event; this bounds it in case one is missed.
constexpr std::int64_t kWaitUs = 100'000;
constexpr std::int64_t kIdleUs = 1'000'000;  // while the link alone is looked after
constexpr int kMeasuredPasses = 2;
constexpr int kSlowedWarmUp = 30;  // to see the least times

}  // namespace

EdgeLoop::EdgeLoop(std::shared_ptr<const runtime::Network> network, policy::Policy& policy,
                   const policy::PolicyOptions& options, transport::Client* client,
                   const EdgeSettings& settings)
    : network_(std::move(network)),
      policy_(policy),
      options_(options),
      client_(client),
      settings_(settings),
      engine_(network_->make_engine(settings.threads)),
      edge_(network_->info(), *engine_, client, settings.slowdown),
      session_(policy, options),
      meter_(network_->info(), settings.payload),
      costs_(options.costs),
      flights_(settings.window) {
  if (settings.energy) power_.emplace(*settings.energy);
}

template <class Body>
void EdgeLoop::metered(PowerByActivity::Activity activity, const Body& body) {
  if (power_) power_->begin(clock_.elapsed_us());
  body();
  if (power_) power_->end(activity, clock_.elapsed_us());
}

void EdgeLoop::notice(const std::string& message) {
  if (!settings_.notices) return;
  const std::optional<std::string> told = notices_.pass(message);
  if (told) print_message(fmt::format("splitee-edge: {}\n", *told));
}

bool EdgeLoop::may_send() const {
  const double most = settings_.most_bytes * static_cast<double>(learned_);
  return settings_.most_bytes <= 0.0 || bytes_sent_ <= most;
}

void EdgeLoop::learn(std::size_t number) {
  Flight& own = flight(number);
  bytes_sent_ += static_cast<double>(own.finished.record.bytes_sent);
  session_.learn(own.episode);
}

LinkState EdgeLoop::link() {
  if (client_ == nullptr) return LinkState::kNone;
  const bool up = client_->ready();
  if (up && !link_up_) notice("link is up again");
  if (!up) {
    notice(fmt::format("no server: {}; samples are finished here", client_->last_problem()));
  }
  link_up_ = up;
  measure_probes();
  if (up && !may_send()) return LinkState::kNone;
  return up ? LinkState::kUp : LinkState::kDown;
}

void EdgeLoop::measure_probes() {
  if (const auto probe = client_->take_probe()) meter_.add_probe(*probe);
}

Status EdgeLoop::prepare(const Sample& sample, Flight& flight) {
  Result<runtime::Prepared> input = network_->prepare(sample.input);
  if (!input.ok()) return input.status();
  flight.input = std::move(*input);
  // Also what is sent without being begun with here is something that the network takes.
  if (Status status = network_->decode(flight.input.view(), flight.input.decoded); !status.ok()) {
    return status;
  }
  flight.finished.cut = flight.input.full;
  meter_.add_sample(flight.input.length);
  return {};
}

Status EdgeLoop::start(const Sample& sample) {
  SPLITEE_CHECK(!full());
  refused_ = false;
  for (; started_ - learned_ >= flights_.size(); ++learned_) learn(learned_);
  if (Status status = collect(); !status.ok()) return status;
  Flight& own = flight(started_);
  own.finished = {};
  own.finished.record.id = sample.id;
  own.finished.record.truth = sample.truth;
  own.finished.record.feedback = sample.feedback;
  own.finished.record.age_us = sample.age_us;
  own.finished.record.path = sample.input.name;
  own.answered = own.retried = false;
  const LinkState state = link();
  const Stopwatch watch;
  if (Status status = prepare(sample, own); !status.ok()) {
    refused_ = status.code() == Code::kCorrupt || status.code() == Code::kUnsupported;
    if (sample.input.name.empty()) return status;
    return {status.code(), sample.input.name + ": " + status.message()};
  }
  const std::int64_t prepare_us = watch.elapsed_us();
  if (settings_.live_costs) price(own);
  const Stopwatch run_watch;
  edge_.start(own.input);
  EpisodeRunner::Step step = EpisodeRunner::Step::kAnswered;
  metered(PowerByActivity::kComputing, [&] { step = session_.start(own.episode, state, edge_); });
  if (!edge_.status().ok()) return edge_.status();
  own.finished.record.edge_us = prepare_us + run_watch.elapsed_us();
  own.finished.edge_layers = edge_.layer();
  meter_.add_work(edge_.work(), own.input.length);
  ++started_;
  if (step == EpisodeRunner::Step::kSend) {
    own.layer = edge_.layer() > 0 ? engine_->ready_layer() : 0;
    own.activation.clear();
    if (own.layer > 0) {
      const std::span<const float> ready = engine_->ready_activation();
      own.activation.assign(ready.begin(), ready.end());
    }
  }
  if (settings_.exits) evaluate_exits(own);
  if (step == EpisodeRunner::Step::kAnswered) {
    complete(own, edge_.class_index(), edge_.answers());
    return {};
  }
  send(own);
  return collect();
}

// Runs every layer and exit of the first sample for measurement, and to warm up before.
void EdgeLoop::measure_work(const Flight& own) {
  const auto run_all = [&] {
    const std::size_t exits = network_->info().exits();
    edge_.start(own.input);
    for (std::size_t arm = 0; arm < exits; ++arm) {
      if (arm + 1 < exits) edge_.will_go_on();
      edge_.evaluate(arm);
    }
  };
  edge_.draw_out(false);
  const int warm_up = settings_.slowdown > 1.0 ? kSlowedWarmUp : 1;
  for (int pass = 0; pass < warm_up; ++pass) run_all();
  edge_.draw_out(true);
  for (int pass = 0; pass < kMeasuredPasses; ++pass) {
    run_all();
    meter_.add_work(edge_.work(), own.input.length);
  }
}

// The costs of now.
void EdgeLoop::price(const Flight& own) {
  if (!meter_.work_known()) measure_work(own);
  meter_.price(wait_weight(), costs_);
  if (settings_.budget_as_measured) {
    // Microseconds, times watts for microjoules.
    const double watts = power_ ? power_->watts(PowerByActivity::kComputing) : 1.0;
    if (watts > 0.0) costs_.budget_unit = meter_.costs().unit_us() * watts / 1000;
  }
  session_.set_costs(costs_);
  SPLITEE_CHECK(policy_.set_costs(costs_).ok());
}

OffloadRequest EdgeLoop::request_of(const Flight& flight) const {
  OffloadRequest request;
  request.layer = flight.parcel.layer;
  if (flight.parcel.layer == 0) {
    request.input_kind = network_->info().input;
    request.input = flight.input.view();
  } else {
    request.activation = flight.activation;
    request.shape = network_->info().shape(flight.parcel.layer, flight.input.length);
    request.activation_dtype = flight.parcel.dtype;
  }
  return request;
}

void EdgeLoop::send(Flight& own) {
  ++waiting_;
  own.parcel = meter_.choose(own.layer, own.input.length);
  // The server may take fewer requests at a time than the window has.
  while (!client_->available() && client_->ready()) client_->wait_available(kWaitUs);
  own.sent = Stopwatch();
  own.request_id = client_->submit(request_of(own), settings_.deadline_us);
}

Status EdgeLoop::wait(std::span<const int> fds, std::int64_t most_us) {
  if (client_ != nullptr) {
    const std::int64_t wait_us = std::min(most_us, waiting_ > 0 ? kWaitUs : kIdleUs);
    metered(PowerByActivity::kWaiting, [&] { client_->wait(fds, wait_us); });
  }
  return collect();
}

Status EdgeLoop::finish_waiting() {
  for (std::size_t number = taken_; number < started_; ++number) {
    Flight& own = flight(number);
    if (!own.request_id) continue;
    own.request_id.reset();
    if (Status status = finish_here(own); !status.ok()) return status;
  }
  return {};
}

Status EdgeLoop::collect() {
  Status status;
  while (waiting_ > 0 && status.ok()) {
    const auto completion = client_->poll(0);
    if (!completion) break;
    const auto owner = std::find_if(flights_.begin(), flights_.end(), [&](const Flight& f) {
      return f.request_id == completion->request_id;
    });
    SPLITEE_CHECK(owner != flights_.end());
    owner->request_id.reset();
    status = end_offload(*owner, completion->outcome);
  }
  return status;
}

Status EdgeLoop::end_offload(Flight& own, const OffloadOutcome& outcome) {
  Record& record = own.finished.record;
  const bool first = record.bytes_sent == 0;
  record.bytes_sent += outcome.bytes_sent;
  if (outcome.bytes_sent > 0) record.payload = outcome.dtype;
  if (first) own.first_sent_us = outcome.sent_us;
  if (outcome.kind != OffloadOutcome::Kind::kReply) {
    if (send_again(own, outcome)) return {};
    notice("offload failed: " + outcome.reason);
    return finish_here(own);
  }
  --waiting_;
  // The time of a first, failed try is part of the wait.
  record.link_us = outcome.link_us + (first ? 0 : outcome.sent_us - own.first_sent_us);
  record.server_us = outcome.reply.server_us;
  meter_.add_reply(outcome, own.parcel.layer, own.input.length);
  session_.finish(own.episode,
                  policy::ServerReply(outcome.reply.confidence, outcome.reply.class_index), edge_,
                  offload_cost(own));
  complete(own, outcome.reply.class_index, outcome.reply.probabilities);
  return {};
}

bool EdgeLoop::send_again(Flight& own, const OffloadOutcome& outcome) {
  if (own.retried) return false;
  const std::int64_t left_us = settings_.deadline_us - own.sent.elapsed_us();
  const auto request_id = client_->retry(request_of(own), outcome, left_us);
  if (!request_id) return false;
  own.request_id = request_id;
  own.retried = true;
  return true;
}

Status EdgeLoop::finish_here(Flight& own) {
  --waiting_;
  own.finished.record.link_us = own.sent.elapsed_us();
  const double cost = offload_cost(own);
  const Stopwatch watch;
  edge_.resume(own.input, own.layer, own.activation);
  metered(PowerByActivity::kComputing,
          [&] { session_.finish(own.episode, std::nullopt, edge_, cost); });
  if (!edge_.status().ok()) return edge_.status();
  own.finished.record.edge_us += watch.elapsed_us();
  own.finished.edge_layers = edge_.layer();
  meter_.add_work(edge_.work(), own.input.length);
  complete(own, edge_.class_index(), edge_.answers());
  return {};
}

// As measured, or as the costs say.
double EdgeLoop::offload_cost(const Flight& own) const {
  if (!settings_.live_costs || !meter_.costs().known()) return session_.offload_cost(own.episode);
  const Record& record = own.finished.record;
  return meter_.costs().waiting(static_cast<double>(record.link_us + record.server_us),
                                costs_.lambda(), wait_weight());
}

void EdgeLoop::complete(Flight& own, std::uint32_t class_index, const std::vector<float>& answers) {
  const Outcome& outcome = own.episode.outcome;
  const bool at_once = outcome.plan.arm == policy::kOffloadAtOnce;
  Record& record = own.finished.record;
  record.class_index = class_index;
  record.confidence = outcome.answer_confidence;
  record.answers = answers;
  record.split = record.arm = 0;
  if (!at_once) {
    std::size_t arm = outcome.plan.arm;
    // Chosen exit by exit: where it was sent from, or answered.
    if (outcome.plan.first != policy::kAsPlanned) {
      const bool sent = outcome.route == Route::kOffload || outcome.route == Route::kFallback;
      arm = sent ? own.episode.sent_from : outcome.exit_arm;
    }
    record.split = options_.layer_of[arm];
    record.arm = arm + 1;
  }
  record.exit_layer = options_.layer_of[outcome.exit_arm];
  record.route = outcome.route;
  own.episode.outcome.feedback = record.feedback.value_or(policy::kNoClass);
  if (outcome.would_answer != policy::kNoExit) {
    record.would_exit = options_.layer_of[outcome.would_answer];
  }
  // The policy paid for no offload, but for people this is a sample that the link failed.
  if (outcome.plan.link == LinkState::kDown && outcome.exit_arm != outcome.plan.arm &&
      outcome.route == Route::kFinal) {
    record.route = Route::kFallback;
  }
  record.cost = outcome.cost / costs_.lambda();
  record.reward = costs_.reward(outcome.answer_confidence, outcome.cost);
  own.answered = true;
}

const Finished* EdgeLoop::take() {
  if (taken_ == started_ || !flight(taken_).answered) return nullptr;
  return &flight(taken_++).finished;
}

void EdgeLoop::learn_all() {
  for (; learned_ < taken_; ++learned_) learn(learned_);
}

void EdgeLoop::evaluate_exits(Flight& own) {
  const auto& layers = network_->info().exit_layers;
  Record& record = own.finished.record;
  record.exits.resize(layers.size());
  // The sample went through the engine or would have: begin() takes it.
  if (!engine_->begin(own.input.view()).ok()) return;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (!engine_->run_to(layers[i]).ok()) return;
    engine_->finish_layer();
    const std::span<const float> probabilities = engine_->evaluate_exit(i);
    record.exits[i].assign(probabilities.begin(), probabilities.end());
  }
}

}  // namespace splitee::tools
