// Drives one sample at a time through a policy and a network, and accounts for it: the one place
// where "how far it ran, which exits, was it sent" becomes a cost. The live edge loop and the
// replay of a trace are the same code with two networks.
//
// Cost per route, with layers and exits as really run on the edge:
//   exit, final   lambda1 * layers + lambda2 * exits
//   offload       the same up to the split, + o      (input sent at once: o alone)
//   fallback      the same to the last layer, the last exit included, + o
// A sample that is neither answered nor sent at its split, for want of a link or because its policy
// goes on, runs to the last layer: final.
//
// A sample need not be finished before the next one starts: start() runs it until it is answered or
// has to be sent, finish() takes what came of the sending, and learn() lets the policy see it,
// once, whenever the caller wants. run() does the three in one go.
//
// Network, by duck typing:
//   ExitReading evaluate(std::size_t arm);            runs on to the arm's layer, reads its exit
//   void will_go_on();                                optional: the exit evaluated next does not
//                                                     end the sample
//   std::optional<float> offload(std::size_t arm);    for run() only: confidence of the server's
//                                                     answer, or nothing if the link failed; arm
//                                                     may be kOffloadAtOnce
// Thread rule: one thread at a time. Ownership: borrows the policy, which must outlive it.
#pragma once

#include <algorithm>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "policy/policy.h"
#include "runtime/status.h"

namespace splitee::policy {

// One sample on its way. May be used again for another sample.
struct Trip {
  // Complete once the sample is answered. Its view of the confidences is valid while the trip
  // lives.
  Outcome outcome;
  std::size_t sent_from = 0;  // arm it is sent from, or kOffloadAtOnce; where start() says kSend
  std::vector<float> confidence;  // per arm, NaN where not evaluated
  std::size_t evaluated = 0;      // entries of `confidence` below it may be set
  std::size_t exits = 0;          // evaluated so far
};

class Session {
 public:
  enum class Step { kAnswered, kSend };

  // `options` are those that the policy was made with.
  Session(Policy& policy, const PolicyOptions& options)
      : policy_(policy), layer_of_(options.layer_of), costs_(options.costs) {
    clear(trip_);
  }

  // What samples cost from now on; to be told to the policy too.
  void set_costs(const CostModel& costs) { costs_ = costs; }
  const CostModel& costs() const { return costs_; }

  // Plans a sample and runs it until it is answered, or has to be sent from trip.sent_from.
  template <class Network>
  Step start(Trip& trip, Link link, Network&& network) {
    clear(trip);
    trip.outcome.plan = policy_.plan(link);
    const Plan& plan = trip.outcome.plan;
    if (plan.arm == kOffloadAtOnce && plan.link == Link::kUp) return send(trip, kOffloadAtOnce);
    if (plan.arm == kOffloadAtOnce) return finish_at(trip, last(), network);
    SPLITEE_CHECK(plan.arm < layer_of_.size());
    return walk(trip, network);
  }

  // Ends a sample that was sent. `answer`: confidence of the server's answer; nothing where the
  // link failed, then the network, set to where the sample was, runs it to the end. `offload_cost`:
  // what the sending cost.
  template <class Network>
  void finish(Trip& trip, std::optional<float> answer, Network&& network, double offload_cost) {
    Outcome& outcome = trip.outcome;
    outcome.exit_arm = last();
    if (answer) {
      const std::size_t layers = trip.sent_from == kOffloadAtOnce ? 0 : layer_of_[trip.sent_from];
      outcome.route = Route::kOffload;
      outcome.answer_confidence = *answer;
      outcome.cost = costs_.cost(layers, trip.exits, false) + offload_cost;
    } else {
      outcome.route = Route::kFallback;
      outcome.answer_confidence = evaluate(trip, last(), network).confidence;
      outcome.cost = costs_.cost(layer_of_.back(), trip.exits, false) + offload_cost;
    }
  }

  // The policy sees an answered sample. To be called once for each.
  void learn(Trip& trip) {
    trip.outcome.confidence = trip.confidence;
    policy_.observe(trip.outcome);
  }

  // Runs one sample and lets the policy learn from it. The outcome is valid until the next call.
  template <class Network>
  const Outcome& run(Link link, Network&& network) {
    if (start(trip_, link, network) == Step::kSend) {
      finish(trip_, network.offload(trip_.sent_from), network, offload_cost(trip_));
    }
    learn(trip_);
    return trip_.outcome;
  }

  // What the costs of now say of sending a sample from where it is.
  double offload_cost(const Trip& trip) const {
    return costs_.offload_from(trip.sent_from == kOffloadAtOnce ? 0 : layer_of_[trip.sent_from]);
  }

 private:
  void clear(Trip& trip) const {
    constexpr float kNothing = std::numeric_limits<float>::quiet_NaN();
    if (trip.confidence.size() != layer_of_.size()) {
      trip.confidence.assign(layer_of_.size(), kNothing);
    }
    std::fill_n(trip.confidence.begin(), trip.evaluated, kNothing);
    trip.confidence.back() = kNothing;
    trip.evaluated = 0;
    trip.exits = 0;
  }

  template <class Network>
  ExitReading evaluate(Trip& trip, std::size_t arm, Network& network) {
    const ExitReading reading = network.evaluate(arm);
    trip.confidence[arm] = reading.confidence;
    trip.evaluated = arm + 1;
    ++trip.exits;
    return reading;
  }

  template <class Network>
  Step walk(Trip& trip, Network& network) {
    const Plan& plan = trip.outcome.plan;
    for (std::size_t arm = plan.every_exit ? 0 : plan.arm;; ++arm) {
      if constexpr (requires { network.will_go_on(); }) {
        if (arm != plan.arm && !plan.may_end_early) network.will_go_on();
      }
      const ExitReading reading = evaluate(trip, arm, network);
      const Action action = policy_.decide(plan, arm, reading);
      if (action == Action::kExit) return answer_at(trip, arm, reading.confidence);
      if (action == Action::kOffload) return send(trip, arm);
      if (arm == plan.arm) break;
    }
    SPLITEE_CHECK(plan.arm != last());
    return finish_at(trip, last(), network);
  }

  Step send(Trip& trip, std::size_t arm) const {
    SPLITEE_CHECK(trip.outcome.plan.link == Link::kUp);
    trip.sent_from = arm;
    return Step::kSend;
  }

  template <class Network>
  Step finish_at(Trip& trip, std::size_t arm, Network& network) {
    return answer_at(trip, arm, evaluate(trip, arm, network).confidence);
  }

  Step answer_at(Trip& trip, std::size_t arm, float confidence) const {
    trip.outcome.route = arm == last() ? Route::kFinal : Route::kExit;
    trip.outcome.exit_arm = arm;
    trip.outcome.answer_confidence = confidence;
    trip.outcome.cost = costs_.cost(layer_of_[arm], trip.exits, false);
    return Step::kAnswered;
  }

  std::size_t last() const { return layer_of_.size() - 1; }

  Policy& policy_;
  std::vector<std::size_t> layer_of_;
  CostModel costs_;
  Trip trip_;  // of run()
};

}  // namespace splitee::policy
