#include "tools/edge_loop.h"

#include <algorithm>

#include "tools/console.h"

namespace splitee::tools {

using policy::Link;
using policy::Outcome;
using policy::Route;
using policy::Session;
using runtime::Status;
using transport::OffloadOutcome;
using transport::OffloadRequest;

namespace {

// Nothing ends a wait but an event; this bounds it in case one is missed.
constexpr std::int64_t kWaitUs = 1'000'000;
constexpr int kMeasuredPasses = 2;
constexpr int kSlowedWarmUp = 30;  // to see the least times

}  // namespace

EdgeLoop::EdgeLoop(std::shared_ptr<const runtime::Model> model, policy::Policy& policy,
                   const policy::PolicyOptions& options, transport::Client* client,
                   const EdgeSettings& settings)
    : model_(std::move(model)),
      policy_(policy),
      options_(options),
      client_(client),
      settings_(settings),
      engine_(model_, settings.threads),
      network_(engine_, client, settings.slowdown),
      session_(policy, options),
      meter_(model_->config(), settings.payload),
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
  if (!settings_.notices || message == last_notice_) return;
  last_notice_ = message;
  print_message(fmt::format("splitee-edge: {}\n", message));
}

Link EdgeLoop::link() {
  if (client_ == nullptr) return Link::kNone;
  const bool up = client_->ready();
  if (up && !link_up_) notice("link is up again");
  if (!up) {
    notice(fmt::format("no server: {}; samples are finished here", client_->last_problem()));
  }
  link_up_ = up;
  measure_probes();
  return up ? Link::kUp : Link::kDown;
}

void EdgeLoop::measure_probes() {
  if (const auto probe = client_->take_probe()) meter_.add_probe(*probe);
}

void EdgeLoop::encode(const Sample& sample, Flight& flight) {
  std::string_view text2;
  if (sample.text2) text2 = *sample.text2;
  const std::size_t max_tokens = model_->config().max_tokens;
  flight.input =
      model_->tokenizer().encode(sample.text, sample.text2 ? &text2 : nullptr, max_tokens);
  flight.finished.cut = flight.input.ids.size() == max_tokens;
  meter_.add_sample(flight.input.ids.size());
}

Status EdgeLoop::start(const Sample& sample) {
  SPLITEE_CHECK(!full());
  for (; started_ - learned_ >= flights_.size(); ++learned_) session_.learn(flight(learned_).trip);
  if (Status status = collect(); !status.ok()) return status;
  Flight& own = flight(started_);
  own.finished = {};
  own.finished.record.id = sample.id;
  own.finished.record.truth = sample.truth;
  own.answered = own.retried = false;
  const Link state = link();
  const Stopwatch watch;
  encode(sample, own);
  const std::int64_t encode_us = watch.elapsed_us();
  if (settings_.live_costs) price(own);
  const Stopwatch run_watch;
  network_.start(own.input);
  Session::Step step = Session::Step::kAnswered;
  metered(PowerByActivity::kComputing, [&] { step = session_.start(own.trip, state, network_); });
  if (!network_.status().ok()) return network_.status();
  own.finished.record.edge_us = encode_us + run_watch.elapsed_us();
  own.finished.edge_layers = network_.layer();
  meter_.add_work(network_.work(), own.input.ids.size());
  ++started_;
  if (step == Session::Step::kSend) {
    own.layer = network_.layer() > 0 ? engine_.ready_layer() : 0;
    own.activation.clear();
    if (own.layer > 0) {
      const std::span<const float> ready = engine_.ready_activation();
      own.activation.assign(ready.begin(), ready.end());
    }
  }
  if (settings_.exits) evaluate_exits(own);
  if (step == Session::Step::kAnswered) {
    complete(own, network_.class_index());
    return {};
  }
  send(own);
  return collect();
}

// Runs every layer and exit of the first sample for measurement, and to warm up before.
void EdgeLoop::measure_work(const Flight& own) {
  const auto run_all = [&] {
    const std::size_t exits = model_->config().exit_layers.size();
    network_.start(own.input);
    for (std::size_t arm = 0; arm < exits; ++arm) {
      if (arm + 1 < exits) network_.will_go_on();
      network_.evaluate(arm);
    }
  };
  network_.draw_out(false);
  const int warm_up = settings_.slowdown > 1.0 ? kSlowedWarmUp : 1;
  for (int pass = 0; pass < warm_up; ++pass) run_all();
  network_.draw_out(true);
  for (int pass = 0; pass < kMeasuredPasses; ++pass) {
    run_all();
    meter_.add_work(network_.work(), own.input.ids.size());
  }
}

// The costs of now.
void EdgeLoop::price(const Flight& own) {
  if (!meter_.work_known()) measure_work(own);
  meter_.price(wait_weight(), costs_);
  session_.set_costs(costs_);
  SPLITEE_CHECK(policy_.set_costs(costs_).ok());
}

OffloadRequest EdgeLoop::request_of(const Flight& flight) const {
  OffloadRequest request;
  request.layer = flight.parcel.layer;
  request.tokens = flight.input.ids.size();
  if (flight.parcel.layer == 0) {
    request.ids = flight.input.ids;
    request.types = flight.input.types;
  } else {
    request.activation = flight.activation;
    request.activation_dtype = flight.parcel.dtype;
  }
  return request;
}

void EdgeLoop::send(Flight& own) {
  ++waiting_;
  own.parcel = meter_.choose(own.layer, own.input.ids.size());
  // The server may take fewer requests at a time than the window has.
  while (!client_->available() && client_->ready()) client_->wait_available(kWaitUs);
  own.sent = Stopwatch();
  own.ticket = client_->submit(request_of(own), settings_.deadline_us);
}

Status EdgeLoop::wait(std::span<const int> fds) {
  if (waiting_ > 0) {
    metered(PowerByActivity::kWaiting, [&] { client_->wait(fds, kWaitUs); });
  }
  return collect();
}

Status EdgeLoop::collect() {
  Status status;
  while (waiting_ > 0 && status.ok()) {
    const auto completion = client_->poll(0);
    if (!completion) break;
    const auto owner = std::find_if(flights_.begin(), flights_.end(), [&](const Flight& f) {
      return f.ticket == completion->ticket;
    });
    SPLITEE_CHECK(owner != flights_.end());
    owner->ticket.reset();
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
  meter_.add_reply(outcome, own.parcel.layer, own.input.ids.size());
  session_.finish(own.trip, outcome.reply.confidence, network_, offload_cost(own));
  complete(own, outcome.reply.class_index);
  return {};
}

bool EdgeLoop::send_again(Flight& own, const OffloadOutcome& outcome) {
  if (own.retried) return false;
  const std::int64_t left_us = settings_.deadline_us - own.sent.elapsed_us();
  const auto ticket = client_->retry(request_of(own), outcome, left_us);
  if (!ticket) return false;
  own.ticket = ticket;
  own.retried = true;
  return true;
}

Status EdgeLoop::finish_here(Flight& own) {
  --waiting_;
  own.finished.record.link_us = own.sent.elapsed_us();
  const double cost = offload_cost(own);
  const Stopwatch watch;
  network_.resume(own.input, own.layer, own.activation);
  metered(PowerByActivity::kComputing,
          [&] { session_.finish(own.trip, std::nullopt, network_, cost); });
  if (!network_.status().ok()) return network_.status();
  own.finished.record.edge_us += watch.elapsed_us();
  own.finished.edge_layers = network_.layer();
  meter_.add_work(network_.work(), own.input.ids.size());
  complete(own, network_.class_index());
  return {};
}

// As measured, or as the costs say.
double EdgeLoop::offload_cost(const Flight& own) const {
  if (!settings_.live_costs || !meter_.costs().known()) return session_.offload_cost(own.trip);
  const Record& record = own.finished.record;
  return meter_.costs().waiting(static_cast<double>(record.link_us + record.server_us),
                                costs_.lambda(), wait_weight());
}

void EdgeLoop::complete(Flight& own, std::uint32_t class_index) {
  const Outcome& outcome = own.trip.outcome;
  const bool at_once = outcome.plan.arm == policy::kOffloadAtOnce;
  Record& record = own.finished.record;
  record.class_index = class_index;
  record.confidence = outcome.answer_confidence;
  record.split = at_once ? 0 : options_.layer_of[outcome.plan.arm];
  record.exit_layer = options_.layer_of[outcome.exit_arm];
  record.route = outcome.route;
  // The policy paid for no offload, but for people this is a sample that the link failed.
  if (outcome.plan.link == Link::kDown && outcome.exit_arm != outcome.plan.arm &&
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
  for (; learned_ < taken_; ++learned_) session_.learn(flight(learned_).trip);
}

void EdgeLoop::evaluate_exits(Flight& own) {
  const auto& layers = model_->config().exit_layers;
  Record& record = own.finished.record;
  record.exits.resize(layers.size());
  // The sample went through the engine or would have: begin() takes it.
  if (!engine_.begin(own.input.ids, own.input.types).ok()) return;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (!engine_.run_to(layers[i]).ok()) return;
    engine_.finish_layer();
    const std::span<const float> probabilities = engine_.evaluate_exit(i);
    record.exits[i].assign(probabilities.begin(), probabilities.end());
  }
}

}  // namespace splitee::tools
