#include "tests/simulation/scenario.h"

#include <cmath>
#include <memory>
#include <optional>
#include <vector>

#include "base/heap.h"
#include "tests/simulation/intruder.h"
#include "tests/simulation/sim_edge.h"

namespace splitee::simulation {
namespace {

constexpr std::uint64_t kModel = 0xa11ce, kForeignModel = 0xb0b;
constexpr std::int64_t kMs = 1'000, kSecond = 1'000'000;
constexpr std::int64_t kFaultTime = 10 * kSecond, kHealTime = 10 * kSecond;  // of all days
constexpr double kShortestNight = 60, kLongestNight = 30 * 86'400.0;         // seconds
constexpr std::uint64_t kEventsOfNight = 2'000;  // or it is none; what falls due at its beginning
constexpr std::uint64_t kHeapGrowth = 40 << 10;
constexpr std::size_t kProbes = 10;
constexpr std::size_t kIntruder = 90;  // its host number

enum class Fault {
  kKill,
  kFreeze,
  kDrain,
  kOtherModel,
  kUpgrade,
  kReload,
  kSlowServer,
  kPartition,
  kOneWay,
  kSlowPath,
  kBreaks,
  kCorruption,
  kRepeats,
  kReorder,
  kReplay,
  kCrashEdge,
  kSaveEdge,
  kFullDisk,
  kSuspendEdge,
  kClockJump,
  kCount
};

class Scenario {
 public:
  Scenario(std::uint64_t seed, bool verbose) : world_(seed, verbose), fabric_(world_) {
    make_servers();
    make_edges();
    for (std::size_t i = 0; i < static_cast<std::size_t>(Fault::kCount); ++i) {
      if (world_.chance(0.5)) faults_.push_back(static_cast<Fault>(i));
    }
    fault_interval_us_ = world_.between(20, 800) * kMs;
    days_ = static_cast<std::size_t>(world_.between(2, 3));
  }

  Report run() {
    Report report;
    try {
      play();
    } catch (const Broken& broken) {
      report.broken = broken.what();
    }
    report.digest = world_.digest();
    report.events = world_.events();
    report.simulated_us = world_.now_us();
    report.idle_us = idle_us_;
    report.faults = fault_count_;
    report.upgrades = upgrades_;
    for (const auto& edge : edges_) {
      report.records += edge->tally().records;
      report.offloads += edge->tally().offloads;
      report.fallbacks += edge->tally().fallbacks;
      report.restarts += edge->tally().restored;
      if (const auto certificate = edge->certificate()) {
        report.certificates.push_back(*certificate);
      }
    }
    for (const auto& server : servers_) report.executed += server->executed();
    return report;
  }

 private:
  void make_servers() {
    const std::int64_t count = world_.between(1, 3);
    for (std::int64_t i = 0; i < count; ++i) {
      transport::ServerOptions options;
      options.threads = static_cast<std::size_t>(world_.between(1, 2));
      options.max_batch = static_cast<std::size_t>(world_.between(1, 4));
      options.max_queue = static_cast<std::size_t>(world_.between(2, 16));
      options.max_queue_bytes = static_cast<std::size_t>(world_.between(80, 800));
      options.max_sessions = static_cast<std::size_t>(world_.between(6, 12));
      options.max_window = static_cast<std::uint32_t>(world_.between(1, 6));
      servers_.push_back(std::make_unique<SimServer>(world_, fabric_, servers_.size(), options));
      servers_.back()->service_us = usual_service_us_ = world_.between(100, 3'000);
    }
    const bool keyed = world_.chance(0.5);
    for (const auto& server : servers_) server->keyed = keyed;
  }

  EdgeOptions edge_options() {
    static const char* const kPolicies[] = {"splitee", "splitee-s", "factored",
                                            "offload", "audited",   "audited"};
    static constexpr double kShares[] = {0, 0.02, 0.1, 0.3}, kLimits[] = {0.01, 0.1, 0.3};
    EdgeOptions options;
    options.policy = kPolicies[world_.rng().below(6)];
    options.max_disagreement = kLimits[world_.rng().below(3)];
    options.level = world_.chance(0.3) ? 0.5 : 0.95;
    // With them hardly anything is audited from the start.
    options.held_out = world_.chance(0.6) ? 300 : 0;
    options.in_place = world_.chance(0.2);
    options.stream.differ = kShares[world_.rng().below(4)];
    options.stream.differ_later = kShares[world_.rng().below(4)];
    options.stream.turn = static_cast<std::size_t>(world_.between(0, 1'000));
    if (world_.chance(0.08)) test_certificate(options);
    options.client.endpoints.assign(servers_.size(), "server");
    options.client.model_hash = kModel;
    options.client.classes = kClasses;
    options.client.activation_dtype =
        world_.chance(0.3) ? transport::Dtype::kF16 : transport::Dtype::kF32;
    options.client.window = static_cast<std::size_t>(world_.between(1, 4));
    options.layer_us = world_.between(100, 3'000);
    options.interval_us = world_.between(10, 100) * kMs;
    options.deadline_us = world_.between(150, 1'500) * kMs;
    options.twice = world_.chance(0.3) ? 0.05 : 0;
    options.stream.bad_value = world_.chance(0.3) ? 0.05 : 0;
    return options;
  }

  // Many answers that differ and are not audited: where the bound is wrong by much, most such runs
  // overstep it. They have a level of their own, so that others do not hide them.
  void test_certificate(EdgeOptions& options) {
    options.policy = "audited";
    options.samples_alone = 4'000;
    options.level = 0.99;
    options.held_out = 300;
    options.max_disagreement = 0.3;
    options.stream = {0.1, 0.3, 0, 1'000};
  }

  void make_edges() {
    std::vector<SimServer*> servers;
    for (const auto& server : servers_) servers.push_back(server.get());
    const std::int64_t count = world_.between(1, 4);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::size_t id = 10 + edges_.size();
      for (std::size_t s = 0; s < servers.size(); ++s) reset_path(id, s);
      edges_.push_back(std::make_unique<SimEdge>(world_, fabric_, id, servers, edge_options()));
    }
    intruder_ = std::make_unique<Intruder>(world_, fabric_, kIntruder, *servers[0]);
  }

  // A path as it is when nothing is wrong.
  void reset_path(std::size_t edge, std::size_t server) {
    Path& path = fabric_.path(edge, server);
    const auto blocked = path.blocked;
    path = {};
    path.blocked = blocked;
    path.delay_us = 200 + 700 * static_cast<std::int64_t>((edge * 7 + server * 3) % 30);
    path.jitter_us = path.delay_us / 4;
  }

  void play() {
    for (const auto& server : servers_) server->start(release_.model, release_.version);
    for (const auto& edge : edges_) edge->start();
    for (;;) {
      live_a_day();
      if (day_ == days_) break;
      end_day();
      sleep();
    }
    run_until(world_.now_us() + 3 * kSecond);
    for (const auto& edge : edges_) edge->stop();
    run_until(world_.now_us() + kHealTime - 4 * kSecond);
    check_served();
    check_memory();
    for (const auto& edge : edges_) edge->check_policy();
  }

  // Faults, and then none.
  void live_a_day() {
    ++day_;
    healed_ = false;
    if (world_.chance(0.5)) intruder_->start(world_.between(1, 50) * kMs, world_.chance(0.5));
    if (!faults_.empty()) again();
    run_until(world_.now_us() + kFaultTime / static_cast<std::int64_t>(days_));
    heal();
    run_until(world_.now_us() + kSecond);
  }

  void end_day() {
    for (const auto& edge : edges_) edge->stop();
    run_until(world_.now_us() + 4 * kSecond);
    for (std::size_t i = 0; i < edges_.size(); ++i) {
      world_.require(edges_[i]->done(), "I1: every sample has its record", 10 + i);
    }
    check_memory();
  }

  void check_memory() {
    for (const auto& server : servers_) server->check_idle();
    for (const auto& edge : edges_) edge->check_idle();
    fabric_.forget();
    std::uint64_t bytes = heap_bytes();
    if (bytes == 0) return;  // this C library does not tell
    for (const auto& edge : edges_) bytes -= edge->disk_bytes();
    if (!evening_bytes_) evening_bytes_ = bytes;
    world_.require(bytes <= *evening_bytes_ + kHeapGrowth,
                   "I11: memory is flat (" + std::to_string(*evening_bytes_) + " bytes, then " +
                       std::to_string(bytes) + ")",
                   0);
  }

  // Nobody asks anything, for a minute or for weeks: edges are awake, suspended, or without power.
  void sleep() {
    const double longer = std::pow(kLongestNight / kShortestNight, world_.rng().uniform());
    const auto night_us = static_cast<std::int64_t>(kShortestNight * longer) * kSecond;
    world_.note("night", 0, static_cast<std::uint64_t>(night_us));
    for (const auto& edge : edges_) {
      edge->work_alone();
      if (world_.chance(0.3)) edge->crash(End::kPowerCut);
      if (!world_.chance(0.5)) continue;
      clocks_jumped_ = true;
      edge->suspend(world_.chance(0.5));
    }
    const std::uint64_t events = world_.events();
    run_until(world_.now_us() + night_us);
    world_.require(world_.events() - events < kEventsOfNight, "nothing happens in a night", 0);
    idle_us_ += night_us;
    for (const auto& edge : edges_) {
      edge->resume();
      edge->go_on();
    }
  }

  void run_until(std::int64_t until_us) {
    while (world_.step(until_us)) {
      for (const auto& server : servers_) server->check();
      for (const auto& edge : edges_) edge->check();
      if (world_.events() % 8'192 == 0) {
        for (const auto& edge : edges_) edge->check_policy();
      }
    }
  }

  SimServer& any_server() {
    return *servers_[world_.rng().below(static_cast<std::uint32_t>(servers_.size()))];
  }
  SimEdge& any_edge() {
    return *edges_[world_.rng().below(static_cast<std::uint32_t>(edges_.size()))];
  }

  // For a while; every fault ends by itself, or is ended by heal().
  void later(std::function<void()> action) {
    const auto act = [this, day = day_, action = std::move(action)] {
      if (!healed_ && day == day_) action();
    };
    world_.after(world_.around(fault_interval_us_ * 2), act);
  }

  void strike() {
    if (healed_) return;
    ++fault_count_;
    const Fault fault = faults_[world_.rng().below(static_cast<std::uint32_t>(faults_.size()))];
    world_.note("fault", static_cast<std::size_t>(fault));
    switch (fault) {
      case Fault::kKill:
      case Fault::kDrain:
      case Fault::kOtherModel:
      case Fault::kFreeze:
      case Fault::kReload:
      case Fault::kSlowServer:
        strike_server(fault, any_server());
        break;
      case Fault::kCrashEdge:
        any_edge().crash(static_cast<End>(world_.rng().below(4)));
        break;
      case Fault::kSaveEdge:
        any_edge().save();
        break;
      case Fault::kFullDisk:
        any_edge().save(static_cast<std::size_t>(world_.between(0, 2'000)));
        break;
      case Fault::kUpgrade:
        roll_out();
        break;
      case Fault::kSuspendEdge:
        suspend(any_edge());
        break;
      case Fault::kClockJump:
        jump_clock();
        break;
      default:
        strike_path(fault);
    }
    again();
  }

  void again() {
    world_.after(world_.around(fault_interval_us_), [this, day = day_] {
      if (day == day_) strike();
    });
  }

  // The next release, host by host; until the last one has it, some do not understand each other.
  void roll_out() {
    ++upgrades_;
    if (world_.chance(0.5)) {
      release_.version = 1 - release_.version;
    } else {
      ++release_.model;
    }
    for (const auto& server : servers_) {
      later([this, &server = *server] { upgrade(server); });
    }
    for (const auto& edge : edges_) {
      later([this, &edge = *edge] { upgrade(edge); });
    }
  }

  void upgrade(SimServer& server) {
    if (server.version() == release_.version && server.model_hash() == release_.model) return;
    server.kill();
    server.start(release_.model, release_.version);
  }

  void upgrade(SimEdge& edge) {
    if (edge.version() == release_.version && edge.model_hash() == release_.model) return;
    edge.upgrade(release_.version, release_.model);
  }

  void suspend(SimEdge& edge) {
    clocks_jumped_ = true;
    edge.suspend(world_.chance(0.5));
    later([&edge] { edge.resume(); });
  }

  // As of a machine that is moved to another one.
  void jump_clock() {
    clocks_jumped_ = true;
    const std::int64_t ahead_us = world_.chance(0.2) ? 3'600 * kSecond : world_.around(kSecond);
    world_.chance(0.5) ? any_server().jump_clock(ahead_us) : any_edge().jump_clock(ahead_us);
  }

  void strike_server(Fault fault, SimServer& server) {
    if (!server.running()) return;
    if (fault == Fault::kFreeze) {
      server.freeze();
      return later([&server] { server.thaw(); });
    }
    if (fault == Fault::kReload) {
      server.reload(world_.chance(0.7) ? kForeignModel : release_.model);
      return later([this, &server] { server.reload(release_.model); });
    }
    if (fault == Fault::kSlowServer) {
      server.service_us = world_.between(10, 500) * kMs;
      return later([this, &server] { server.service_us = usual_service_us_; });
    }
    if (fault == Fault::kDrain && !server.frozen()) {
      server.drain();
    } else {
      server.kill();
    }
    const bool foreign = fault == Fault::kOtherModel;
    later([this, &server, foreign] {
      server.kill();
      server.start(foreign ? kForeignModel : release_.model, release_.version);
    });
  }

  void strike_path(Fault fault) {
    const std::size_t edge = 10 + world_.rng().below(static_cast<std::uint32_t>(edges_.size()));
    const std::size_t server = world_.rng().below(static_cast<std::uint32_t>(servers_.size()));
    Path& path = fabric_.path(edge, server);
    switch (fault) {
      case Fault::kPartition:
        path.blocked = {true, true};
        break;
      case Fault::kOneWay:
        path.blocked[world_.rng().below(2)] = true;
        break;
      case Fault::kSlowPath:
        path.delay_us = world_.between(50, 2'000) * kMs;
        path.jitter_us = path.delay_us;
        break;
      case Fault::kBreaks:
        path.break_probability = 0.1;
        break;
      case Fault::kReorder:
        path.reorder_probability = 0.2;
        break;
      case Fault::kReplay:
        path.replay_probability = 0.2;
        break;
      case Fault::kCorruption:
        path.corrupt_probability = 0.2;
        break;
      default:
        path.repeat_probability = 0.3;
        break;
    }
    later([this, edge, server] {
      reset_path(edge, server);
      fabric_.unblock(edge, server);
    });
  }

  void heal() {
    world_.note("heal", 0);
    healed_ = true;
    intruder_->stop();
    for (const auto& edge : edges_) {
      edge->resume();
      upgrade(*edge);
    }
    for (const auto& server : servers_) {
      server->thaw();
      server->service_us = usual_service_us_;
      if (!server->running() || server->draining()) {
        server->kill();
        server->start(release_.model, release_.version);
      }
      upgrade(*server);
    }
    for (std::size_t e = 0; e < edges_.size(); ++e) {
      for (std::size_t s = 0; s < servers_.size(); ++s) {
        reset_path(10 + e, s);
        fabric_.unblock(10 + e, s);
      }
    }
  }

  void check_served() {
    for (const auto& edge : edges_) edge->stop();
    run_until(world_.now_us() + 3 * kSecond);
    for (std::size_t i = 0; i < edges_.size(); ++i) {
      world_.require(edges_[i]->done(), "I1: every sample has its record", 10 + i);
    }
    for (std::size_t round = 0; round < kProbes; ++round) {
      // One after the other: a short queue may be full of the others' probes.
      for (const auto& edge : edges_) {
        edge->probe();
        run_until(world_.now_us() + 100 * kMs);
      }
    }
    run_until(world_.now_us() + 2 * kSecond);
    for (std::size_t i = 0; i < edges_.size(); ++i) {
      const EdgeTally& tally = edges_[i]->tally();
      world_.require(tally.probes == kProbes, "probes were sent", 10 + i);
      // One may be told to say hello first: sessions of the intruder can have pushed its own out.
      // Where a clock has jumped, a request looks late to each server, until the edge greets anew.
      const std::size_t lost = clocks_jumped_ ? 1 + servers_.size() : 1;
      world_.require(tally.probes_answered >= kProbes - lost,
                     "I8: served again after all is healed (" + edges_[i]->problem() + ", " +
                         std::to_string(tally.probes_answered) + " answered)",
                     10 + i);
    }
  }

  World world_;
  Fabric fabric_;
  std::vector<std::unique_ptr<SimServer>> servers_;
  std::vector<std::unique_ptr<SimEdge>> edges_;
  std::unique_ptr<Intruder> intruder_;
  std::vector<Fault> faults_;
  std::int64_t fault_interval_us_ = 0, usual_service_us_ = 1'000;
  std::uint64_t fault_count_ = 0;
  bool healed_ = false, clocks_jumped_ = false;
  std::size_t day_ = 0, days_ = 2;
  std::int64_t idle_us_ = 0;
  struct Release {
    std::uint64_t model = kModel;
    int version = 0;
  };
  Release release_;
  std::uint64_t upgrades_ = 0;
  std::optional<std::uint64_t> evening_bytes_;
};

}  // namespace

Report run_scenario(std::uint64_t seed, bool verbose) {
  return Scenario(seed, verbose).run();
}

}  // namespace splitee::simulation
