#include "tests/simulation/sim_server.h"

namespace splitee::simulation {
namespace {

using transport::Answer;
using transport::Frames;
using transport::Job;

constexpr std::size_t kMostPayload = kMaxTokens * kHidden * sizeof(float);

// What a job keeps alive; counted, since memory is what must be bounded.
struct Kept {
  PacketPtr packet;
  std::shared_ptr<std::size_t> bytes;
  Kept(PacketPtr kept, std::shared_ptr<std::size_t> counter)
      : packet(std::move(kept)), bytes(std::move(counter)) {
    *bytes += packet->payload.size();
  }
  Kept(const Kept&) = delete;
  ~Kept() { *bytes -= packet->payload.size(); }
};

}  // namespace

SimServer::SimServer(World& world, Fabric& fabric, std::size_t id,
                     const transport::ServerOptions& options)
    : world_(world), fabric_(fabric), id_(id), options_(options) {
  clock_.offset_us = world.between(0, 1'000'000'000);
  clock_.drift_ppm = world.between(-200, 200);
  clock_.step_us = world.chance(0.2) ? 4'000 : 1;
}

void SimServer::start(std::uint64_t model_hash) {
  world_.note("start", id_, model_hash);
  model_hash_ = model_hash;
  ++incarnation_;
  frozen_ = false;
  postponed_.clear();
  executing_ = 0;
  held_bytes_ = std::make_shared<std::size_t>(0);
  counters_ = std::make_unique<transport::ServerCounters>();
  queue_ = std::make_unique<transport::JobQueue>(options_.max_queue, options_.max_queue_bytes,
                                                 options_.threads);
  backend_ = std::make_unique<StubBackend>(model_hash);
  workers_ = std::vector<Worker>(options_.threads);
  core_.emplace(shape_of_model(model_hash), options_, *queue_, *counters_);
}

void SimServer::kill() {
  if (!running()) return;
  world_.note("kill", id_);
  ++incarnation_;
  frozen_ = false;
  postponed_.clear();
  core_.reset();
  workers_.clear();
  queue_.reset();
  std::map<std::string, ConnectionPtr> peers;
  peers.swap(peers_);
  for (const auto& [peer, connection] : peers) fabric_.close_server(connection);
}

void SimServer::drain() {
  world_.note("drain", id_);
  in_process([this] {
    core_->shut_down();
    exit_when_drained();
  });
}

void SimServer::exit_when_drained() {
  if (core_->shutting_down() && core_->outstanding() == 0) kill();
}

void SimServer::freeze() {
  world_.note("freeze", id_);
  frozen_ = true;
}

void SimServer::thaw() {
  if (!frozen_) return;
  world_.note("thaw", id_);
  frozen_ = false;
  std::deque<std::function<void()>> actions;
  actions.swap(postponed_);
  for (const auto& action : actions) {
    if (running()) action();
  }
}

void SimServer::in_process(std::function<void()> action) {
  if (!running()) return;
  if (frozen_) {
    postponed_.push_back(std::move(action));
  } else {
    action();
  }
}

void SimServer::on_packet(const ConnectionPtr& connection, PacketPtr packet) {
  in_process([this, connection, packet] { receive(connection, packet); });
}

void SimServer::on_end(const ConnectionPtr& connection) {
  peers_.erase(connection->peer);
}

void SimServer::receive(const ConnectionPtr& connection, const PacketPtr& packet) {
  if (connection->server != nullptr) peers_[connection->peer] = connection;
  const auto owner = std::make_shared<Kept>(packet, held_bytes_);
  const std::span<const std::byte> frames[] = {packet->header, packet->payload};
  std::vector<Answer> expired;
  const std::optional<Frames> back =
      core_->receive({connection->peer, "", frames, owner}, local_us(), expired);
  if (back) send(connection->peer, *back);
  for (const Answer& late : expired) answer(late);
  work();
  exit_when_drained();
}

void SimServer::work() {
  for (Worker& worker : workers_) {
    if (worker.busy || queue_->size() == 0) continue;
    for (Job& job : queue_->take(options_.max_batch)) worker.jobs.push_back(std::move(job));
    executing_ += worker.jobs.size();
    worker.busy = true;
    run_next(worker);
  }
}

void SimServer::run_next(Worker& worker) {
  const Job& job = worker.jobs.front();
  const bool late = job.expires_us <= local_us();
  if (!late) ++executed_;
  const Answer result = transport::execute(job, *backend_, worker.scratch, local_us());
  world_.require(late == std::holds_alternative<transport::Refusal>(result.body),
                 "I1: expired work is not done, other work is", id_);
  const std::uint64_t incarnation = incarnation_;
  world_.after(late ? 0 : world_.around(service_us), [this, &worker, result, incarnation] {
    if (incarnation != incarnation_) return;
    in_process([this, &worker, result] { finish(worker, result); });
  });
}

void SimServer::finish(Worker& worker, const Answer& result) {
  worker.jobs.pop_front();
  --executing_;
  answer(result);
  if (!worker.jobs.empty()) {
    run_next(worker);
  } else {
    worker.busy = false;
    work();
  }
  exit_when_drained();
}

void SimServer::answer(const Answer& result) {
  const std::optional<Frames> frames = core_->complete(result, local_us());
  ++answered_;
  if (frames) send(result.address.peer, *frames);
}

void SimServer::send(const std::string& peer, const Frames& frames) {
  const std::span<const std::byte> parts[] = {frames.header, frames.payload.bytes()};
  world_.require(transport::decode(parts).ok(), "what a server sends can be read", id_);
  const auto it = peers_.find(peer);
  if (it != peers_.end()) (void)fabric_.send(it->second, kDown, to_packet(frames));
}

void SimServer::check() const {
  if (!running()) return;
  world_.require(queue_->size() <= options_.max_queue, "I5: requests queued are bounded", id_);
  const std::size_t working = options_.threads * options_.max_batch * kMostPayload;
  world_.require(frozen_ || *held_bytes_ <= options_.max_queue_bytes + working,
                 "I5: bytes queued are bounded", id_);
  world_.require(core_->outstanding() == queue_->size() + executing_,
                 "I1: every accepted request is queued or worked on", id_);
  world_.require(counters_->in_flight == core_->outstanding(), "counters agree", id_);
}

}  // namespace splitee::simulation
