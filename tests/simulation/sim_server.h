// A server process: the real ServerCore and JobQueue, with workers that take virtual time. It can
// be killed, frozen, drained, given another model, and started again.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/simulation/fabric.h"
#include "tests/simulation/stub_model.h"
#include "transport/server/server_core.h"

namespace splitee::simulation {

class SimServer : public Host {
 public:
  SimServer(World& world, Fabric& fabric, std::size_t id, const transport::ServerOptions& options);

  // `version` of the protocol, 0 or 1: the older or the newer one.
  void start(std::uint64_t model_hash, int version);
  void kill();
  // Refuses what is new, answers what it has, then is gone.
  void drain();
  // Takes another model while it runs; what it has accepted stays with the old one.
  void reload(std::uint64_t model_hash);
  void jump_clock(std::int64_t ahead_us) { clock_.offset_us += ahead_us; }
  void freeze();
  void thaw();
  bool running() const { return core_.has_value(); }
  bool frozen() const { return frozen_; }
  bool draining() const { return core_ && core_->shutting_down(); }
  std::uint64_t model_hash() const { return model_hash_; }
  int version() const { return version_; }
  // With nothing on its way, nothing is kept.
  void check_idle() const;

  // Of one request; can be changed at any time.
  std::int64_t service_us = 1'000;
  // Whether peers have keys; without, all of them are nobody.
  bool keyed = false;

  bool accepts() const override { return running(); }
  void on_packet(const ConnectionPtr& connection, PacketPtr packet) override;
  void on_end(const ConnectionPtr& connection) override;

  std::uint64_t answered() const { return answered_; }
  std::uint64_t executed() const { return executed_; }
  void check() const;

 private:
  struct Worker {
    std::vector<transport::Job> jobs;  // the batch at work; none where it is idle
    transport::Scratch scratch;
  };

  std::int64_t local_us() const { return clock_.read(world_.now_us()); }
  std::shared_ptr<transport::ServedModel> served(std::uint64_t model_hash) const;
  // Runs when the process does: now, or after a thaw; never in a later incarnation.
  void in_process(std::function<void()> action);
  void receive(const ConnectionPtr& connection, const PacketPtr& packet);
  void work();
  void run_batch(std::size_t worker);
  void finish(std::size_t worker, const transport::Executed& executed, std::int64_t elapsed_us);
  void answer(const transport::Answer& answer);
  void send(const std::string& peer, const transport::Frames& frames);
  void exit_when_drained();

  World& world_;
  Fabric& fabric_;
  std::size_t id_;
  transport::ServerOptions options_;
  HostClock clock_;
  std::uint64_t model_hash_ = 0;
  int version_ = 0;
  std::uint64_t incarnation_ = 0;
  bool frozen_ = false;
  std::deque<std::function<void()>> postponed_;

  std::map<std::string, ConnectionPtr> peers_;
  std::unique_ptr<transport::ServerCounters> counters_;
  std::unique_ptr<transport::JobQueue> queue_;
  std::optional<transport::ServerCore> core_;
  std::vector<Worker> workers_;
  std::shared_ptr<std::size_t> held_bytes_;  // of requests that this incarnation keeps
  std::size_t executing_ = 0;
  std::uint64_t answered_ = 0, executed_ = 0;
};

}  // namespace splitee::simulation
