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

void SimServer::start(std::uint64_t model_hash, int version) {
  world_.note("start", id_, model_hash, static_cast<std::uint64_t>(version));
  model_hash_ = model_hash;
  version_ = version;
  ++incarnation_;
  frozen_ = false;
  postponed_.clear();
  executing_ = 0;
  held_bytes_ = std::make_shared<std::size_t>(0);
  counters_ = std::make_unique<transport::ServerCounters>();
  queue_ = std::make_unique<transport::JobQueue>(transport::limits_of(options_));
  workers_ = std::vector<Worker>(options_.threads);
  core_.emplace(served(model_hash), options_, *queue_, *counters_);
}

std::shared_ptr<transport::ServedModel> SimServer::served(std::uint64_t model_hash) const {
  const auto backend = [model_hash] { return std::make_unique<StubBackend>(model_hash); };
  return std::make_shared<transport::ServedModel>(shape_of_model(model_hash), backend,
                                                  options_.threads);
}

void SimServer::reload(std::uint64_t model_hash) {
  in_process([this, model_hash] {
    world_.note("reload", id_, model_hash);
    model_hash_ = model_hash;
    core_->set_model(served(model_hash));
  });
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
  const PacketPtr own = with_version(packet, -version_);
  const auto owner = std::make_shared<Kept>(own, held_bytes_);
  const std::span<const std::byte> frames[] = {own->header, own->payload};
  std::vector<Answer> expired;
  const std::size_t accepted = core_->outstanding();
  const std::string user = keyed ? "key " + std::to_string(connection->client_id) : "";
  const std::optional<Frames> back =
      core_->receive({connection->peer, user, frames, owner}, local_us(), expired);
  world_.require(core_->outstanding() <= accepted ||
                     version_of(*packet) == transport::kProtocolVersion + version_,
                 "I9: nothing is accepted that speaks another version", id_);
  if (back) send(connection->peer, *back);
  for (const Answer& late : expired) answer(late);
  work();
  exit_when_drained();
}

void SimServer::work() {
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    if (!workers_[i].jobs.empty()) continue;
    workers_[i].jobs = queue_->take(local_us());
    if (workers_[i].jobs.empty()) return;
    executing_ += workers_[i].jobs.size();
    run_batch(i);
  }
}

void SimServer::run_batch(std::size_t worker) {
  const std::vector<Job>& jobs = workers_[worker].jobs;
  const std::int64_t begin_us = local_us();
  const transport::Executed executed = transport::execute(
      jobs, *jobs.front().model->backends[worker], workers_[worker].scratch, begin_us);
  world_.require(executed.answers.size() == jobs.size(), "I1: one answer for every job", id_);
  std::int64_t elapsed_us = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const bool late = jobs[i].expires_us <= begin_us;
    if (!late) ++executed_;
    if (!late) elapsed_us += world_.around(service_us);
    world_.require(late == (executed.answers[i].shed == transport::Shed::kLateInQueue),
                   "I1: expired work is not done, other work is", id_);
    world_.require(executed.answers[i].model_hash == jobs.front().model->shape.model_hash,
                   "I6: a batch is of one model", id_);
  }
  const std::uint64_t incarnation = incarnation_;
  world_.after(elapsed_us, [this, worker, executed, elapsed_us, incarnation] {
    if (incarnation != incarnation_) return;
    in_process([this, worker, executed, elapsed_us] { finish(worker, executed, elapsed_us); });
  });
}

void SimServer::finish(std::size_t worker, const transport::Executed& executed,
                       std::int64_t elapsed_us) {
  std::uint64_t work_done = 0;
  for (const Job& job : workers_[worker].jobs) work_done += job.work;
  executing_ -= workers_[worker].jobs.size();
  workers_[worker].jobs.clear();
  queue_->finished(work_done, executed.run_work, elapsed_us);
  for (const Answer& result : executed.answers) answer(result);
  work();
  exit_when_drained();
}

void SimServer::answer(const Answer& result) {
  const std::optional<Frames> frames = core_->complete(result, local_us());
  ++answered_;
  if (frames) send(result.address.peer, *frames);
}

void SimServer::send(const std::string& peer, const Frames& frames) {
  world_.require(transport::testing::decode_sent(frames).ok(), "what a server sends can be read",
                 id_);
  const auto it = peers_.find(peer);
  if (it == peers_.end()) return;
  const ConnectionPtr connection = it->second;  // sending may break it, and erase the entry
  (void)fabric_.send(connection, kDown, with_version(to_packet(frames), version_));
}

void SimServer::check_idle() const {
  if (!running()) return;
  // A batch that takes many times as long as usual may still be at work.
  const bool idle = core_->outstanding() == 0;
  world_.require(!idle || (*held_bytes_ == 0 && counters_->queued_bytes == 0),
                 "I11: an idle server keeps no request", id_);
  world_.require(counters_->sessions <= options_.max_sessions, "I11: sessions are bounded", id_);
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
