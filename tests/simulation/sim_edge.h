// An edge process: the real ClientCore and policy over synthetic samples. While layers run it does
// not look at its sockets, as in life.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "policy/episode.h"
#include "policy/policy.h"
#include "tests/simulation/disk.h"
#include "tests/simulation/fabric.h"
#include "tests/simulation/scenario.h"
#include "tests/simulation/sim_server.h"
#include "tests/simulation/sim_stream.h"
#include "transport/client/client_core.h"

namespace splitee::simulation {

struct EdgeOptions {
  std::string policy = "splitee";
  transport::ClientOptions client;
  Stream::Shape stream;
  double max_disagreement = 0.01, level = 0.95;  // of "audited"
  std::size_t held_out = 0;                      // rows of the model file
  std::size_t samples_alone = 0;                 // in a night
  bool in_place = false;                         // StateKeeper
  std::int64_t layer_us = 1'000;
  std::int64_t interval_us = 10'000;  // between samples, at least
  std::int64_t deadline_us = 200'000;
  double twice = 0;  // chance that an outcome is told to the policy again
};

struct EdgeTally {
  std::uint64_t records = 0, exits = 0, offloads = 0, fallbacks = 0, finals = 0;
  std::uint64_t probes = 0, probes_answered = 0, crashes = 0, lost_by_crash = 0, retries = 0;
  std::uint64_t restored = 0;
};

// How a process of an edge ends, and what the next one finds of its state.
enum class End {
  kKilled,       // what was written is there
  kPowerCut,     // what was not synced may be lost, in part
  kDamaged,      // killed, and a bit of the file flips
  kOtherFormat,  // killed, and the file is of another version of the format
};

class SimEdge : public Host {
 public:
  SimEdge(World& world, Fabric& fabric, std::size_t id, std::vector<SimServer*> servers,
          const EdgeOptions& options);

  void start();
  // The process ends at once and comes back with the policy that it had saved.
  void crash(End end);
  // The same as another release: of the protocol (0 or 1), and of the model.
  void upgrade(int version, std::uint64_t model_hash);
  // Begins to save; bytes beyond `room` do not fit on the disk.
  void save(std::size_t room = static_cast<std::size_t>(-1));
  // The process stands still, its clock too where the whole machine does.
  void suspend(bool clock_stops);
  void resume();
  void jump_clock(std::int64_t ahead_us);
  // Sends a request of its own, past the policy: it must be answered when nothing is wrong.
  void probe();
  // Begins no more samples, until go_on().
  void stop() { stopped_ = true; }
  void go_on();
  // In the night, without a server, as far as the options say.
  void work_alone();
  bool done() const { return stopped_ && open_.empty(); }
  int version() const { return version_; }
  std::uint64_t model_hash() const { return options_.client.model_hash; }
  // Of one that has a certificate.
  std::optional<Certificate> certificate() const;
  void check_idle() const;
  std::size_t disk_bytes() const { return state_.bytes(); }
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
    policy::Episode episode;
    std::uint64_t content = 0;    // of the request that was sent
    std::int64_t expires_us = 0;  // world time
    bool is_probe = false;
    std::size_t arm = 0;  // that the offload is made from
    bool retried = false;

    const policy::Plan& plan() const { return episode.outcome.plan; }
    // That were run before it was answered, or sent.
    std::size_t layers() const {
      return episode.evaluated == 0 ? 0 : kArmLayers[episode.evaluated - 1];
    }
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
  void restart(End end);
  void restore(const std::string& bytes, bool changed);
  void wake();
  void pump();
  void schedule();
  void begin_sample();
  void compute(std::size_t layers, std::function<void()> then);
  void make_parcel(const Sample& sample, Parcel& parcel) const;
  void offload(Sample sample, std::size_t arm);
  bool send_again(Sample& sample, const transport::OffloadOutcome& failed);
  void collect();
  void take_reply(Sample& sample, const transport::Reply& reply);
  void fall_back(Sample sample);
  void finish(Sample& sample);
  void learn(Sample& sample);
  void count_answer(const Sample& sample);

  World& world_;
  Fabric& fabric_;
  std::size_t id_;
  std::vector<SimServer*> servers_;
  EdgeOptions options_;
  policy::PolicyOptions policy_options_;
  HostClock clock_;
  Stream stream_;
  StateKeeper state_;
  int version_ = 0;
  Net net_{*this};
  std::uint64_t incarnation_ = 0;

  std::unique_ptr<policy::Policy> policy_;
  std::optional<policy::EpisodeRunner> runner_;
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

  bool audits_ = false;  // the policy is the one with a certificate
  bool stopped_ = false;
  std::size_t next_sample_ = 0;
  std::map<std::size_t, bool> open_;  // samples begun; true once recorded, out of order
  std::map<transport::RequestId, Sample> in_flight_;
  std::deque<Sample> to_finish_;  // whose offload failed
  std::uint64_t learned_ = 0, rejected_ = 0;
  // Of all samples that the policy knows of: answers before the last exit that differ from it, had
  // nothing been audited; whether there were ever more of them than it said.
  std::uint64_t differing_ = 0;
  bool certificate_broken_ = false;
  double known_bound_ = 0;
  std::set<std::uint64_t> restarts_;  // hashes of the states that it went on from
  EdgeTally tally_;
};

}  // namespace splitee::simulation
