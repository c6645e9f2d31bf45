// Classifies samples, several at a time: while some wait for a server's answer, the next ones run
// here.
//
// Up to `window` samples are in progress, in input order: from start() to their record's being
// taken. Records come in input order, each as soon as it and those before it are finished. The
// policy learns from sample t right before it plans sample t + window, never earlier or later: so
// what it decides depends on its seed, on the window and on which offloads were answered, but not
// on how long they took. Where a mean of bytes is all that may be sent, a sample
// is planned as without a server while those before it have used that up.
//
// An offload that fails is sent once more to another server where that is possible (see
// transport::Client::retry), or else finished here.
// Thread rule: one thread. Ownership: borrows policy and client, which must outlive it.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "policy/episode.h"
#include "runtime/network.h"
#include "tools/common/notices.h"
#include "tools/common/sample_reader.h"
#include "tools/edge/edge_meter.h"
#include "tools/edge/edge_network.h"
#include "tools/edge/energy_meter.h"
#include "tools/edge/record.h"
#include "transport/client/client.h"

namespace splitee::tools {

struct EdgeSettings {
  std::size_t threads = 1;
  std::int64_t deadline_us = 1'000'000;
  std::size_t window = 1;  // samples in progress
  PayloadOptions payload;
  bool live_costs = false;            // costs as measured
  bool budget_as_measured = false;    // the budget is in ms, or mJ where costs are energy
  double most_bytes = 0;              // mean that may be sent a sample; 0: any
  std::optional<EnergyMeter> energy;  // costs are energy, not latency
  double slowdown = 1.0;              // of layers and exits
  bool exits = false;                 // fill Record::exits
  bool notices = true;                // tell of a link that goes and comes, on standard error
};

// A sample's record, with what only the summary needs.
struct Finished {
  Record record;
  std::size_t edge_layers = 0;  // run on the edge
  bool cut = false;             // as long as the network takes
};

class EdgeLoop {
 public:
  // `client` is null where there is no server. `options` are the policy's.
  EdgeLoop(std::shared_ptr<const runtime::Network> network, policy::Policy& policy,
           const policy::PolicyOptions& options, transport::Client* client,
           const EdgeSettings& settings);

  // Whether `window` records have not been taken yet; then start() must not be called.
  bool full() const { return started_ - taken_ == flights_.size(); }
  // Runs a sample until it is answered or sent. Fails only if the network cannot take the sample at
  // all (a pair of texts where it knows single ones); there is no record of it then.
  Status start(const Sample& sample);
  // Whether the start() that has failed last did so for the sample's own bytes: others can follow.
  bool refused() const { return refused_; }
  // The next record in input order, if that is finished. Valid until the next call of start().
  const Finished* take();
  // Of the record taken last: the confidence of every exit that was looked at here, NaN for the
  // others. Valid until the next call of start().
  std::span<const float> taken_confidences() const {
    return flights_[(taken_ - 1) % flights_.size()].episode.confidence;
  }
  // Samples that wait for a server.
  std::size_t waiting() const { return waiting_; }
  bool has_link() const { return client_ != nullptr; }
  // Waits until one of them is finished or one of `fds` is readable, or some time has passed, at
  // most `most_us`.
  Status wait(std::span<const int> fds, std::int64_t most_us = 1'000'000);
  // Finishes here what waits for a server; to be called once, at the end.
  Status finish_waiting();
  // At the end: lets the policy learn from every sample taken.
  void learn_all();

  const EdgeMeter& meter() const { return meter_; }
  // Measured where the costs are energy.
  const std::optional<PowerByActivity>& power() const { return power_; }
  const policy::CostModel& costs() const { return costs_; }

 private:
  // A sample in progress; its place is used again.
  struct Flight {
    policy::Episode episode;
    runtime::Prepared input;
    std::size_t layer = 0;          // last complete when it was sent; 0: none
    std::vector<float> activation;  // of that layer
    std::optional<transport::RequestId> request_id;
    Stopwatch sent;  // since it was first sent
    std::int64_t first_sent_us = 0;
    Parcel parcel;
    bool retried = false;
    bool answered = false;
    Finished finished;
  };

  Flight& flight(std::size_t number) { return flights_[number % flights_.size()]; }
  policy::LinkState link();
  void learn(std::size_t number);
  bool may_send() const;
  void measure_probes();
  void notice(const std::string& message);
  Status prepare(const Sample& sample, Flight& flight);
  double wait_weight() const { return power_ ? power_->wait_weight() : 1.0; }
  // Runs `body` with the power drawn meanwhile booked to `activity`.
  template <class Body>
  void metered(PowerByActivity::Activity activity, const Body& body);
  void measure_work(const Flight& flight);
  void price(const Flight& flight);
  void send(Flight& flight);
  transport::OffloadRequest request_of(const Flight& flight) const;
  Status collect();
  Status end_offload(Flight& flight, const transport::OffloadOutcome& outcome);
  bool send_again(Flight& flight, const transport::OffloadOutcome& outcome);
  Status finish_here(Flight& flight);
  double offload_cost(const Flight& flight) const;
  void complete(Flight& flight, std::uint32_t class_index, const std::vector<float>& answers);
  void evaluate_exits(Flight& flight);

  std::shared_ptr<const runtime::Network> network_;
  policy::Policy& policy_;
  policy::PolicyOptions options_;
  transport::Client* client_;
  EdgeSettings settings_;
  std::unique_ptr<runtime::Engine> engine_;
  EdgeNetwork edge_;
  policy::EpisodeRunner session_;
  EdgeMeter meter_;
  std::optional<PowerByActivity> power_;
  Stopwatch clock_;
  policy::CostModel costs_;  // of now
  std::vector<Flight> flights_;
  std::size_t started_ = 0, taken_ = 0, learned_ = 0;  // numbers of samples
  std::size_t waiting_ = 0;
  double bytes_sent_ = 0;  // by the samples learned from
  bool link_up_ = true, refused_ = false;
  NoticeLimit notices_;
};

}  // namespace splitee::tools
