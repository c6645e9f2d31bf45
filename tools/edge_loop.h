// Classifies samples, several at a time: while some wait for a server's answer, the next ones run
// here.
//
// Up to `window` samples are in progress, in input order: from start() to their record's being
// taken. Records come in input order, each as soon as it and those before it are finished. The
// policy learns from sample t right before it plans sample t + window, never earlier or later: so
// what it decides depends on its seed, on the window and on which offloads were answered, but not
// on how long they took.
//
// An offload that fails is sent once more to another server where that is possible (see
// transport::Client::retry), or else finished here.
// Thread rule: one thread. Ownership: borrows model, policy and client, which must outlive it.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "policy/session.h"
#include "runtime/engine.h"
#include "runtime/status.h"
#include "tools/clock.h"
#include "tools/edge_meter.h"
#include "tools/edge_network.h"
#include "tools/energy_meter.h"
#include "tools/record.h"
#include "tools/sample_reader.h"
#include "transport/client.h"

namespace splitee::tools {

struct EdgeSettings {
  std::size_t threads = 1;
  std::int64_t deadline_us = 1'000'000;
  std::size_t window = 1;  // samples in progress
  PayloadOptions payload;
  bool live_costs = false;            // costs as measured
  std::optional<EnergyMeter> energy;  // costs are energy, not latency
  double slowdown = 1.0;              // of layers and exits
  bool exits = false;                 // fill Record::exits
  bool notices = true;                // tell of a link that goes and comes, on standard error
};

// A sample's record, with what only the summary needs.
struct Finished {
  Record record;
  std::size_t edge_layers = 0;  // run on the edge
  bool cut = false;             // fills the model's context
};

class EdgeLoop {
 public:
  // `client` is null where there is no server. `options` are the policy's.
  EdgeLoop(std::shared_ptr<const runtime::Model> model, policy::Policy& policy,
           const policy::PolicyOptions& options, transport::Client* client,
           const EdgeSettings& settings);

  // Whether `window` records have not been taken yet; then start() must not be called.
  bool full() const { return started_ - taken_ == flights_.size(); }
  // Runs a sample until it is answered or sent. Fails only if the model cannot take the sample at
  // all (a pair of sentences where it knows one token type); there is no record of it then.
  runtime::Status start(const Sample& sample);
  // The next record in input order, if that is finished. Valid until the next call of start().
  const Finished* take();
  // Samples that wait for a server.
  std::size_t waiting() const { return waiting_; }
  // Waits until one of them is finished or one of `fds` is readable.
  runtime::Status wait(std::span<const int> fds);
  // At the end: lets the policy learn from every sample taken.
  void learn_all();

  const EdgeMeter& meter() const { return meter_; }
  // Measured where the costs are energy.
  const std::optional<PowerByActivity>& power() const { return power_; }
  const policy::CostModel& costs() const { return costs_; }

 private:
  // A sample in progress; its place is used again.
  struct Flight {
    policy::Trip trip;
    runtime::Encoding input;
    std::size_t layer = 0;          // last complete when it was sent; 0: none
    std::vector<float> activation;  // of that layer
    std::optional<transport::Client::Ticket> ticket;
    Stopwatch sent;  // since it was first sent
    std::int64_t first_sent_us = 0;
    Parcel parcel;
    bool retried = false;
    bool answered = false;
    Finished finished;
  };

  Flight& flight(std::size_t number) { return flights_[number % flights_.size()]; }
  policy::Link link();
  void measure_probes();
  void notice(const std::string& message);
  void encode(const Sample& sample, Flight& flight);
  double wait_weight() const { return power_ ? power_->wait_weight() : 1.0; }
  // Runs `body` with the power drawn meanwhile booked to `activity`.
  template <class Body>
  void metered(PowerByActivity::Activity activity, const Body& body);
  void measure_work(const Flight& flight);
  void price(const Flight& flight);
  void send(Flight& flight);
  transport::OffloadRequest request_of(const Flight& flight) const;
  runtime::Status collect();
  runtime::Status end_offload(Flight& flight, const transport::OffloadOutcome& outcome);
  bool send_again(Flight& flight, const transport::OffloadOutcome& outcome);
  runtime::Status finish_here(Flight& flight);
  double offload_cost(const Flight& flight) const;
  void complete(Flight& flight, std::uint32_t class_index);
  void evaluate_exits(Flight& flight);

  std::shared_ptr<const runtime::Model> model_;
  policy::Policy& policy_;
  policy::PolicyOptions options_;
  transport::Client* client_;
  EdgeSettings settings_;
  runtime::Engine engine_;
  EdgeNetwork network_;
  policy::Session session_;
  EdgeMeter meter_;
  std::optional<PowerByActivity> power_;
  Stopwatch clock_;
  policy::CostModel costs_;  // of now
  std::vector<Flight> flights_;
  std::size_t started_ = 0, taken_ = 0, learned_ = 0;  // numbers of samples
  std::size_t waiting_ = 0;
  bool link_up_ = true;
  std::string last_notice_;
};

}  // namespace splitee::tools
