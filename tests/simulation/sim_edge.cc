#include "tests/simulation/sim_edge.h"

#include <bit>
#include <cmath>
#include <limits>

#include "policy/state.h"

namespace splitee::simulation {
namespace {

using policy::Action;
using policy::LinkState;
using policy::Outcome;
using policy::Route;
using transport::OffloadOutcome;

constexpr std::size_t kArmLayers[] = {2, 4, 6};
constexpr std::size_t kArms = 3;

}  // namespace

SimEdge::SimEdge(World& world, Fabric& fabric, std::size_t id, std::vector<SimServer*> servers,
                 const EdgeOptions& options)
    : world_(world), fabric_(fabric), id_(id), servers_(std::move(servers)), options_(options) {
  clock_.offset_us = world.between(0, 1'000'000'000);
  clock_.drift_ppm = world.between(-200, 200);
  clock_.step_us = world.chance(0.2) ? 4'000 : 1;
  policy_options_.layer_of.assign(std::begin(kArmLayers), std::end(kArmLayers));
  policy_options_.alpha = 0.8;
  policy_options_.seed = world.rng().next();
}

void SimEdge::start() {
  new_process();
  pump();
}

void SimEdge::new_process() {
  ++incarnation_;
  busy_ = false;
  suspended_ = false;
  postponed_.clear();
  inbox_.clear();
  to_finish_.clear();
  in_flight_.clear();
  next_wake_us_ = -1;
  policy_ = std::move(*policy::make_policy(options_.policy, policy_options_));
  learned_ = rejected_ = 0;
  connections_.assign(servers_.size(), nullptr);
  options_.client.seed = 1 + world_.rng().next();
  core_ = std::make_unique<transport::ClientCore>(options_.client, net_);
}

void SimEdge::save() {
  saved_ = policy_->save_state();
  saved_learned_ = learned_;
  saved_rejected_ = rejected_;
}

void SimEdge::crash(bool damage) {
  world_.note("crash", id_, damage);
  ++tally_.crashes;
  tally_.lost_by_crash += open_.size();
  open_.clear();
  for (const ConnectionPtr& connection : connections_) {
    if (connection) fabric_.close_client(connection);
  }
  new_process();
  if (saved_.empty()) return pump();
  std::string bytes = saved_;
  if (damage && world_.chance(0.5))
    bytes.resize(world_.rng().below(static_cast<std::uint32_t>(bytes.size())));
  if (damage && bytes.size() == saved_.size()) {
    char& byte = bytes[world_.rng().below(static_cast<std::uint32_t>(bytes.size()))];
    byte = static_cast<char>(byte ^ (1 << world_.rng().below(8)));
  }
  const std::string fresh = policy_->save_state();
  const bool loaded = policy_->load_state(bytes).ok();
  world_.require(loaded != damage, "I7: a whole state is taken, a damaged one refused", id_);
  world_.require(policy_->save_state() == (loaded ? saved_ : fresh), "I7: old state or fresh", id_);
  if (loaded) {
    learned_ = saved_learned_;
    rejected_ = saved_rejected_;
  }
  pump();
}

void SimEdge::suspend(bool clock_stops) {
  if (suspended_) return;
  world_.note("suspend", id_, clock_stops);
  suspended_ = true;
  clock_stopped_ = clock_stops;
  suspended_at_us_ = world_.now_us();
}

void SimEdge::resume() {
  if (!suspended_) return;
  world_.note("resume", id_);
  suspended_ = false;
  if (clock_stopped_) {
    const std::int64_t lost_us = world_.now_us() - suspended_at_us_;
    clock_.offset_us -= lost_us;
    for (auto& [request_id, sample] : in_flight_) sample.expires_us += lost_us;
  }
  next_wake_us_ = -1;
  std::deque<std::function<void()>> actions;
  actions.swap(postponed_);
  for (const auto& action : actions) action();
  wake();
}

void SimEdge::jump_clock(std::int64_t ahead_us) {
  world_.note("jump", id_, static_cast<std::uint64_t>(ahead_us));
  clock_.offset_us += ahead_us;
  next_wake_us_ = -1;
  wake();
}

void SimEdge::Net::open(std::size_t link) {
  edge.connections_[link] = edge.fabric_.connect(edge, edge.id_, *edge.servers_[link], link, link);
}

void SimEdge::Net::close(std::size_t link) {
  if (edge.connections_[link]) edge.fabric_.close_client(edge.connections_[link]);
  edge.connections_[link] = nullptr;
}

bool SimEdge::Net::send(std::size_t link, transport::Frames frames) {
  return edge.connections_[link] &&
         edge.fabric_.send(edge.connections_[link], kUp, to_packet(frames));
}

void SimEdge::on_packet(const ConnectionPtr& connection, PacketPtr packet) {
  inbox_.push_back([this, connection, packet] {
    if (connections_[connection->link] != connection) return;
    const std::span<const std::byte> frames[] = {packet->header, packet->payload};
    core_->receive(connection->link, frames, local_us());
  });
  wake();
}

void SimEdge::on_end(const ConnectionPtr& connection) {
  inbox_.push_back([this, connection] {
    const std::size_t link = connection->link;
    if (connections_[link] != connection) return;
    world_.note("lost", id_, connection->id);
    connections_[link] = nullptr;
    core_->disconnected(link, local_us());
    // An attempt that goes on connects anew by itself.
    if (core_->connecting(link) && !connections_[link]) net_.open(link);
  });
  wake();
}

void SimEdge::wake() {
  if (!busy_ && !pumping_ && !suspended_) pump();
}

void SimEdge::pump() {
  pumping_ = true;
  while (!busy_) {
    while (!busy_ && !inbox_.empty()) {
      const auto action = std::move(inbox_.front());
      inbox_.pop_front();
      action();
    }
    if (busy_) break;
    core_->tick(local_us());
    collect();
    if (!to_finish_.empty()) {
      Sample sample = std::move(to_finish_.front());
      to_finish_.pop_front();
      fall_back(std::move(sample));
    } else if (next_sample_ < options_.samples && open_.size() < options_.client.window &&
               world_.now_us() >= next_start_us_) {
      begin_sample();
    } else {
      break;
    }
  }
  pumping_ = false;
  schedule();
}

void SimEdge::schedule() {
  if (busy_) return;
  std::int64_t wait_us = clock_.until(core_->next_event_us(), world_.now_us());
  if (next_sample_ < options_.samples && next_start_us_ > world_.now_us()) {
    wait_us = std::min(wait_us, next_start_us_ - world_.now_us());
  }
  if (wait_us > std::int64_t{1} << 50) return;
  const std::int64_t at_us = world_.now_us() + wait_us;
  if (next_wake_us_ >= 0 && next_wake_us_ <= at_us) return;
  next_wake_us_ = at_us;
  world_.after(wait_us, [this, at_us, incarnation = incarnation_] {
    if (incarnation != incarnation_ || next_wake_us_ != at_us) return;
    next_wake_us_ = -1;
    wake();
  });
}

void SimEdge::compute(std::size_t layers, std::function<void()> then) {
  busy_ = true;
  const std::int64_t work_us = static_cast<std::int64_t>(layers) * options_.layer_us;
  const auto done = [this, then = std::move(then)] {
    busy_ = false;
    // What to do with the sample comes first; the messages that came meanwhile are looked at
    // on the way (Client::submit() does).
    inbox_.push_back(then);
    wake();
  };
  world_.after(work_us, [this, done, incarnation = incarnation_] {
    if (incarnation != incarnation_) return;
    if (suspended_) return postponed_.push_back(done);
    done();
  });
}

float SimEdge::confidence(std::size_t sample, std::size_t arm) const {
  const std::uint64_t mixed = mix_seed(sample * 1'000 + id_ * 7 + arm);
  const float unit = static_cast<float>(mixed >> 40) * 0x1p-24f;
  return 0.5f + 0.5f * std::pow(unit, 3.0f - static_cast<float>(arm));
}

std::vector<float> SimEdge::probabilities(std::size_t sample, std::size_t arm) {
  const float sure = confidence(sample, arm);
  if (world_.chance(options_.bad_value)) return {std::nanf(""), 1 - sure};
  return {sure, 1 - sure};
}

void SimEdge::begin_sample() {
  Sample sample{next_sample_++, {}, {}, 0, 0, 0, 0, false};
  next_start_us_ = world_.now_us() + options_.interval_us;
  sample.confidence.assign(kArms, std::nanf(""));
  sample.outcome.plan = policy_->plan(core_->available() ? LinkState::kUp : LinkState::kDown);
  open_[sample.id] = false;
  const policy::Plan& plan = sample.outcome.plan;
  world_.note("sample", id_, sample.id, plan.arm);
  if (plan.arm == policy::kOffloadAtOnce) {
    if (plan.link == LinkState::kUp) return offload(std::move(sample), plan.arm);
    return walk(std::move(sample), kArms - 1);
  }
  walk(std::move(sample), plan.every_exit ? 0 : plan.arm);
}

// Runs on to the arm's exit, and does there what the policy says.
void SimEdge::walk(Sample sample, std::size_t arm) {
  const std::size_t layers = kArmLayers[arm] - sample.layers;
  compute(layers, [this, sample, arm]() mutable {
    sample.layers = kArmLayers[arm];
    ++sample.exits;
    const std::vector<float> exit = probabilities(sample.id, arm);
    sample.confidence[arm] = policy::read_exit(exit).confidence;
    const policy::Plan& plan = sample.outcome.plan;
    const bool planned = plan.arm != policy::kOffloadAtOnce && arm <= plan.arm;
    const Action action = planned ? policy_->at_exit(plan, arm, exit) : Action::kExit;
    const bool last = arm == kArms - 1;
    if (action == Action::kExit) {
      const double cost = policy_options_.costs.cost(sample.layers, sample.exits, false);
      finish(sample, last ? Route::kFinal : Route::kExit, arm, sample.confidence[arm], cost);
    } else if (action == Action::kOffload) {
      offload(std::move(sample), arm);
    } else {
      world_.require(!last && (arm < plan.arm || plan.link != LinkState::kUp),
                     "the last exit in reach decides", id_);
      walk(std::move(sample), arm < plan.arm ? arm + 1 : kArms - 1);
    }
  });
}

void SimEdge::make_parcel(const Sample& sample, Parcel& parcel) const {
  // Values that every dtype in use carries exactly, and that no other sample has.
  const std::size_t length = 1 + sample.id % kMaxTokens;
  Rng rng(sample.id * 64 + id_ + (sample.is_probe ? std::uint64_t{1} << 40 : 0));
  for (std::size_t i = 0; i < length * kHidden; ++i) {
    parcel.values.push_back(static_cast<float>(rng.below(2'000)) - 1'000);
  }
  for (std::size_t i = 0; i < length; ++i)
    parcel.ids.push_back(static_cast<std::int32_t>(rng.below(30'000)));
  transport::OffloadRequest& request = parcel.request;
  request.shape = {length, kHidden};
  if (sample.arm == policy::kOffloadAtOnce) {
    request.input = transport::testing::input_of(parcel.ids);
    parcel.content = content_of(parcel.ids);
  } else {
    // A split at the last layer leaves nothing to send.
    request.layer = kArmLayers[sample.arm];
    request.activation = parcel.values;
    parcel.content = content_of(request.layer, parcel.values);
  }
}

void SimEdge::offload(Sample sample, std::size_t arm) {
  sample.arm = arm;
  Parcel parcel;
  make_parcel(sample, parcel);
  sample.content = parcel.content;
  sample.expires_us = world_.now_us() + options_.deadline_us;
  const auto request_id = core_->submit(parcel.request, options_.deadline_us, local_us());
  world_.note("offload", id_, sample.id, request_id);
  world_.require(in_flight_.emplace(request_id, std::move(sample)).second, "request_ids are new",
                 id_);
}

void SimEdge::probe() {
  inbox_.push_back([this] {
    ++tally_.probes;
    Sample sample{tally_.probes, {}, {}, 0, 0, 0, 0, true};
    offload(std::move(sample), tally_.probes % 2 == 0 ? 0 : policy::kOffloadAtOnce);
  });
  wake();
}

void SimEdge::collect() {
  while (auto completion = core_->take_oldest()) {
    const auto it = in_flight_.find(completion->request_id);
    world_.require(it != in_flight_.end(), "I1: one outcome for each request_id", id_);
    Sample sample = std::move(it->second);
    in_flight_.erase(it);
    const OffloadOutcome& outcome = completion->outcome;
    world_.note("outcome", id_, completion->request_id, static_cast<std::uint64_t>(outcome.kind));
    if (!outcome.reason.empty()) world_.note(outcome.reason, id_, completion->request_id);
    if (outcome.kind == OffloadOutcome::Kind::kReply) {
      take_reply(sample, outcome.reply);
    } else if (!sample.is_probe && !send_again(sample, outcome)) {
      to_finish_.push_back(std::move(sample));
    }
  }
}

bool SimEdge::send_again(Sample& sample, const OffloadOutcome& failed) {
  if (sample.retried) return false;
  Parcel parcel;
  make_parcel(sample, parcel);
  const std::int64_t left_us = sample.expires_us - world_.now_us();
  const auto request_id = core_->retry(parcel.request, failed, left_us, local_us());
  if (!request_id) return false;
  world_.note("again", id_, sample.id, *request_id);
  ++tally_.retries;
  sample.retried = true;
  return in_flight_.emplace(*request_id, std::move(sample)).second;
}

void SimEdge::take_reply(Sample& sample, const transport::Reply& reply) {
  const std::vector<float> expected = answer_of(sample.content, options_.client.model_hash);
  world_.require(reply.probabilities == expected,
                 "I2, I6: the answer is this request's, and this model's", id_);
  if (sample.is_probe) {
    ++tally_.probes_answered;
    return;
  }
  const std::size_t layers = sample.outcome.plan.arm == policy::kOffloadAtOnce ? 0 : sample.layers;
  finish(sample, Route::kOffload, kArms - 1, reply.confidence,
         policy_options_.costs.cost(layers, sample.exits, true));
}

void SimEdge::fall_back(Sample sample) {
  const std::size_t layers = kLayers - sample.layers;
  compute(layers, [this, sample]() mutable {
    const std::vector<float> exit = probabilities(sample.id, kArms - 1);
    const float last = policy::read_exit(exit).confidence;
    sample.confidence[kArms - 1] = last;
    const double cost = policy_options_.costs.cost(kLayers, sample.exits + 1, true);
    finish(sample, Route::kFallback, kArms - 1, last, cost);
  });
}

void SimEdge::finish(Sample& sample, Route route, std::size_t exit_arm, float answer, double cost) {
  const auto it = open_.find(sample.id);
  world_.require(it != open_.end() && !it->second, "one record for each sample", id_);
  it->second = true;
  sample.outcome.route = route;
  sample.outcome.exit_arm = exit_arm;
  sample.outcome.answer_confidence = answer;
  sample.outcome.cost = cost;
  sample.outcome.confidence = sample.confidence;
  learn(sample);
  ++(route == Route::kExit       ? tally_.exits
     : route == Route::kOffload  ? tally_.offloads
     : route == Route::kFallback ? tally_.fallbacks
                                 : tally_.finals);
  // Records leave in the order of the samples.
  while (!open_.empty() && open_.begin()->second) {
    world_.note("record", id_, open_.begin()->first, static_cast<std::uint64_t>(route));
    open_.erase(open_.begin());
    ++tally_.records;
  }
}

void SimEdge::learn(const Sample& sample) {
  const Outcome& outcome = sample.outcome;
  // Evaluated exits that gave no number, or an answer that is none, are refused.
  bool sound = !std::isnan(outcome.answer_confidence);
  const std::size_t arm = outcome.plan.arm;
  if (arm != policy::kOffloadAtOnce) {
    const std::size_t reached = std::min(arm, outcome.exit_arm);
    for (std::size_t i = outcome.plan.every_exit ? 0 : reached; i <= reached; ++i) {
      sound = sound && !std::isnan(outcome.confidence[i]);
    }
  }
  policy_->observe(outcome);
  if (!sound) {
    ++rejected_;
  } else if (outcome.plan.link != LinkState::kDown) {
    ++learned_;
  }
  if (world_.chance(options_.twice)) {
    policy_->observe(outcome);
    ++rejected_;
  }
  world_.require(policy_->rejected() == rejected_, "I3: each outcome counts once", id_);
}

void SimEdge::check() const {
  if (busy_ || suspended_) return;
  const std::int64_t slack_us = options_.deadline_us / 1'000 + 2 * clock_.step_us + 10;
  for (const auto& [request_id, sample] : in_flight_) {
    world_.require(world_.now_us() <= sample.expires_us + slack_us,
                   "I1: every request ends by its deadline", id_);
  }
  world_.require(core_->in_flight() <= in_flight_.size(), "I1: no request is lost", id_);
}

void SimEdge::check_policy() {
  const std::string state = policy_->save_state();
  // Taking it checks that every number is finite and in range.
  const auto twin = std::move(*policy::make_policy(options_.policy, policy_options_));
  world_.require(twin->load_state(state).ok(), "I4: a state that was saved is sound", id_);
  world_.require(twin->save_state() == state, "I4: a state is complete", id_);
  const auto body = policy::open_state(state, options_.policy, policy_options_);
  if (options_.policy != "splitee" || !body.ok()) return;
  const auto number = [&](std::size_t index) {
    std::uint64_t bits = 0;
    for (std::size_t i = 8; i-- > 0;)
      bits = bits << 8 | static_cast<unsigned char>((*body)[8 * index + i]);
    return std::bit_cast<double>(bits);
  };
  double pulls = 0;
  for (std::size_t arm = 0; arm < kArms; ++arm) pulls += number(1 + kArms + arm);
  world_.require(pulls == static_cast<double>(learned_), "I4: the pulls are the updates", id_);
  world_.require(number(1 + 2 * kArms) == pulls, "I4: t is the sum of the pulls", id_);
}

}  // namespace splitee::simulation
