// An edge process: the real ClientCore and policy over synthetic samples. While layers run it does
// not look at its sockets, as in life.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "policy/policy.h"
#include "tests/simulation/fabric.h"
#include "tests/simulation/sim_server.h"
#include "transport/client/client_core.h"

namespace splitee::simulation {

struct EdgeOptions {
  std::string policy = "splitee";
  transport::ClientOptions client;
  std::size_t samples = 200;
  std::int64_t layer_us = 1'000;
  std::int64_t interval_us = 10'000;  // between samples, at least
  std::int64_t deadline_us = 200'000;
  double twice = 0;      // chance that an outcome is told to the policy again
  double bad_value = 0;  // chance that an exit's probabilities are no numbers
};

struct EdgeTally {
  std::uint64_t records = 0, exits = 0, offloads = 0, fallbacks = 0, finals = 0;
  std::uint64_t probes = 0, probes_answered = 0, crashes = 0, lost_by_crash = 0, retries = 0;
};

class SimEdge : public Host {
 public:
  SimEdge(World& world, Fabric& fabric, std::size_t id, std::vector<SimServer*> servers,
          const EdgeOptions& options);

  void start();
  // The process dies and comes back with the policy that it had saved; `damage` is done to the
  // saved file first.
  void crash(bool damage);
  void save();
  // The process stands still, its clock too where the whole machine does.
  void suspend(bool clock_stops);
  void resume();
  void jump_clock(std::int64_t ahead_us);
  // Sends a request of its own, past the policy: it must be answered when nothing is wrong.
  void probe();
  // Begins no more samples.
  void stop() { options_.samples = next_sample_; }
  bool done() const { return next_sample_ == options_.samples && open_.empty(); }
  const EdgeTally& tally() const { return tally_; }
  const transport::ClientCounters& counters() const { return core_->counters(); }
  std::string problem() const { return core_->last_problem(); }
  void check() const;
  void check_policy();

  void on_packet(const ConnectionPtr& connection, PacketPtr packet) override;
  void on_end(const ConnectionPtr& connection) override;
  void on_established(const ConnectionPtr&) override { wake(); }

 private:
  struct Net : transport::Connections {
    explicit Net(SimEdge& owner) : edge(owner) {}
    void open(std::size_t link) override;
    void close(std::size_t link) override;
    bool send(std::size_t link, transport::Frames frames) override;
    SimEdge& edge;
  };
  struct Sample {
    std::size_t id;
    policy::Outcome outcome;
    std::vector<float> confidence;
    std::size_t layers = 0, exits = 0;
    std::uint64_t content = 0;    // of the request that was sent
    std::int64_t expires_us = 0;  // world time
    bool is_probe = false;
    std::size_t arm = 0;  // that the offload is made from
    bool retried = false;
  };

  // What is sent of a sample.
  struct Parcel {
    std::vector<float> values;
    std::vector<std::int32_t> ids;
    transport::OffloadRequest request;
    std::uint64_t content = 0;
  };

  std::int64_t local_us() const { return clock_.read(world_.now_us()); }
  void new_process();
  void wake();
  void pump();
  void schedule();
  void begin_sample();
  void compute(std::size_t layers, std::function<void()> then);
  void walk(Sample sample, std::size_t arm);
  void make_parcel(const Sample& sample, Parcel& parcel) const;
  void offload(Sample sample, std::size_t arm);
  bool send_again(Sample& sample, const transport::OffloadOutcome& failed);
  void collect();
  void take_reply(Sample& sample, const transport::Reply& reply);
  void fall_back(Sample sample);
  void finish(Sample& sample, policy::Route route, std::size_t exit_arm, float confidence,
              double cost);
  void learn(const Sample& sample);
  float confidence(std::size_t sample, std::size_t arm) const;
  std::vector<float> probabilities(std::size_t sample, std::size_t arm);

  World& world_;
  Fabric& fabric_;
  std::size_t id_;
  std::vector<SimServer*> servers_;
  EdgeOptions options_;
  policy::PolicyOptions policy_options_;
  HostClock clock_;
  Net net_{*this};
  std::uint64_t incarnation_ = 0;

  std::unique_ptr<policy::Policy> policy_;
  std::unique_ptr<transport::ClientCore> core_;
  std::vector<ConnectionPtr> connections_;
  std::deque<std::function<void()>> inbox_;
  bool busy_ = false;
  bool suspended_ = false, clock_stopped_ = false;
  std::int64_t suspended_at_us_ = 0;
  std::deque<std::function<void()>> postponed_;
  bool pumping_ = false;
  std::int64_t next_wake_us_ = -1;
  std::int64_t next_start_us_ = 0;

  std::size_t next_sample_ = 0;
  std::map<std::size_t, bool> open_;  // samples begun; true once recorded, out of order
  std::map<transport::RequestId, Sample> in_flight_;
  std::deque<Sample> to_finish_;  // whose offload failed
  std::string saved_;
  std::uint64_t learned_ = 0, rejected_ = 0;
  std::uint64_t saved_learned_ = 0, saved_rejected_ = 0;
  EdgeTally tally_;
};

}  // namespace splitee::simulation
