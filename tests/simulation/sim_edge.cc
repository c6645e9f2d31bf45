#include "tests/simulation/sim_edge.h"

#include <cmath>
#include <limits>

namespace splitee::simulation {
namespace {

using policy::LinkState;
using policy::Outcome;
using policy::Route;
using transport::OffloadOutcome;

constexpr std::uint64_t kSaveSamples = 200;

}  // namespace

SimEdge::SimEdge(World& world, Fabric& fabric, std::size_t id, std::vector<SimServer*> servers,
                 const EdgeOptions& options)
    : world_(world),
      fabric_(fabric),
      id_(id),
      servers_(std::move(servers)),
      options_(options),
      stream_(world.rng().next(), options.stream),
      state_(world, options.in_place),
      audits_(options.policy == "audited") {
  clock_.offset_us = world.between(0, 1'000'000'000);
  clock_.drift_ppm = world.between(-200, 200);
  clock_.step_us = world.chance(0.2) ? 4'000 : 1;
  policy_options_.layer_of.assign(std::begin(kArmLayers), std::end(kArmLayers));
  policy_options_.alpha = 0.8;
  policy_options_.max_disagreement = options.max_disagreement;
  policy_options_.level = options.level;
  policy_options_.prior_rows = stream_.held_out_rows(options.held_out);
  policy_options_.model_hash = options.client.model_hash;
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
  runner_.emplace(*policy_, policy_options_);
  learned_ = rejected_ = differing_ = 0;
  certificate_broken_ = false;
  known_bound_ = 0;
  connections_.assign(servers_.size(), nullptr);
  options_.client.seed = 1 + world_.rng().next();
  core_ = std::make_unique<transport::ClientCore>(options_.client, net_);
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
    clock_.offset_us -= clock_.read(world_.now_us()) - clock_.read(suspended_at_us_);
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
         edge.fabric_.send(edge.connections_[link], kUp,
                           with_version(to_packet(frames), edge.version_));
}

void SimEdge::on_packet(const ConnectionPtr& connection, PacketPtr packet) {
  inbox_.push_back([this, connection, packet] {
    if (connections_[connection->link] != connection) return;
    const PacketPtr own = with_version(packet, -version_);
    const std::span<const std::byte> frames[] = {own->header, own->payload};
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
    } else if (!stopped_ && open_.size() < options_.client.window &&
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
  if (!stopped_ && next_start_us_ > world_.now_us()) {
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

void SimEdge::go_on() {
  stopped_ = false;
  wake();
}

void SimEdge::work_alone() {
  if (options_.samples_alone == 0) return;
  world_.note("alone", id_);
  Sample sample{};
  for (std::size_t i = 0; i < options_.samples_alone; ++i) {
    sample.id = next_sample_++;
    StreamExits exits(stream_, sample.id);
    (void)runner_->start(sample.episode, LinkState::kDown, exits);
    learn(sample);
    ++tally_.records;
  }
  save();
}

// The exits say what they say at once; the time that it takes comes after.
void SimEdge::begin_sample() {
  Sample sample{next_sample_++, {}, 0, 0, false};
  next_start_us_ = world_.now_us() + options_.interval_us;
  open_[sample.id] = false;
  StreamExits exits(stream_, sample.id);
  const LinkState link = core_->available() ? LinkState::kUp : LinkState::kDown;
  const bool answered =
      runner_->start(sample.episode, link, exits) == policy::EpisodeRunner::Step::kAnswered;
  world_.note("sample", id_, sample.id, sample.plan().arm);
  const std::size_t layers = sample.layers();
  compute(layers, [this, answered, sample = std::move(sample)]() mutable {
    if (answered) return finish(sample);
    const std::size_t arm = sample.episode.sent_from;
    offload(std::move(sample), arm);
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
    Sample sample{tally_.probes, {}, 0, 0, true};
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
  StreamExits exits(stream_, sample.id);
  runner_->finish(sample.episode, policy::ServerReply(reply.confidence, reply.class_index), exits,
                  runner_->offload_cost(sample.episode));
  finish(sample);
}

void SimEdge::fall_back(Sample sample) {
  const std::size_t layers = kLayers - sample.layers();
  compute(layers, [this, sample = std::move(sample)]() mutable {
    StreamExits exits(stream_, sample.id);
    runner_->finish(sample.episode, std::nullopt, exits, runner_->offload_cost(sample.episode));
    finish(sample);
  });
}

void SimEdge::finish(Sample& sample) {
  const auto it = open_.find(sample.id);
  world_.require(it != open_.end() && !it->second, "I1: one record for each sample", id_);
  it->second = true;
  const Route route = sample.episode.outcome.route;
  learn(sample);
  ++(route == Route::kExit       ? tally_.exits
     : route == Route::kOffload  ? tally_.offloads
     : route == Route::kFallback ? tally_.fallbacks
                                 : tally_.finals);
  // Records leave in the order of the samples.
  while (!open_.empty() && open_.begin()->second) {
    world_.note("record", id_, open_.begin()->first, static_cast<std::uint64_t>(route));
    open_.erase(open_.begin());
    if (++tally_.records % kSaveSamples == 0) save();
  }
}

void SimEdge::learn(Sample& sample) {
  const Outcome& outcome = sample.episode.outcome;
  // Evaluated exits that gave no number, or an answer that is none, are refused.
  bool sound = !std::isnan(outcome.answer_confidence);
  const std::size_t arm = outcome.plan.arm;
  // A policy that names the exits one by one learns from those that it has.
  if (arm != policy::kOffloadAtOnce && outcome.plan.first == policy::kAsPlanned) {
    const std::size_t reached = std::min(arm, outcome.exit_arm);
    for (std::size_t i = outcome.plan.every_exit ? 0 : reached; i <= reached; ++i) {
      sound = sound && !std::isnan(sample.episode.confidence[i]);
    }
  }
  runner_->learn(sample.episode);
  if (!sound) {
    ++rejected_;
  } else if (outcome.plan.link != LinkState::kDown) {
    ++learned_;
  }
  if (sound && audits_) count_answer(sample);
  if (world_.chance(options_.twice)) {
    policy_->observe(outcome);
    ++rejected_;
  }
  world_.require(policy_->rejected() == rejected_, "I3: each outcome counts once", id_);
}

void SimEdge::check_idle() const {
  world_.require(in_flight_.empty() && core_->in_flight() == 0 && !core_->has_outcome() &&
                     to_finish_.empty() && inbox_.empty() && postponed_.empty(),
                 "I11: an idle edge keeps no request", id_);
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

}  // namespace splitee::simulation
