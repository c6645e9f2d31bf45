// Drives one sample at a time through a policy and a network, and accounts for it: the one place
// where "how far it ran, which exits, was it sent" becomes a cost. The live edge loop and the
// replay of a trace are the same code with two networks.
//
// Cost per route, with layers and exits as really run on the edge:
//   exit, final   lambda1 * layers + lambda2 * exits
//   offload       the same up to the split, + o      (input sent at once: o alone)
//   fallback      the same to the last layer, the last exit included, + o
// A sample that does not exit at its split for want of a link runs on to the last layer: final.
//
// Network, by duck typing:
//   ExitReading evaluate(std::size_t arm);            runs on to the arm's layer, reads its exit
//   std::optional<float> offload(std::size_t arm);    confidence of the server's answer, or
//                                                     nothing if the link failed; arm may be
//                                                     kOffloadAtOnce
// Thread rule: one thread at a time. Ownership: borrows the policy, which must outlive it.
#pragma once

#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "policy/policy.h"
#include "runtime/status.h"

namespace splitee::policy {

class Session {
 public:
  // `options` are those that the policy was made with.
  Session(Policy& policy, const PolicyOptions& options)
      : policy_(policy), layer_of_(options.layer_of), costs_(options.costs) {
    confidence_.assign(layer_of_.size(), std::numeric_limits<float>::quiet_NaN());
  }

  // What samples cost from now on; to be told to the policy too.
  void set_costs(const CostModel& costs) { costs_ = costs; }

  // Runs one sample and lets the policy learn from it. The outcome is valid until the next call.
  template <class Network>
  const Outcome& run(Link link, Network&& network) {
    start(link);
    const Plan& plan = outcome_.plan;
    if (plan.arm == kOffloadAtOnce && plan.link == Link::kUp) {
      send(network, kOffloadAtOnce);
    } else if (plan.arm == kOffloadAtOnce) {
      finish_at(last(), evaluate(network, last()).confidence);
    } else {
      SPLITEE_CHECK(plan.arm < layer_of_.size());
      walk(network);
    }
    outcome_.confidence = confidence_;
    policy_.observe(outcome_);
    return outcome_;
  }

 private:
  void start(Link link) {
    for (std::size_t arm = 0; arm < evaluated_; ++arm) {
      confidence_[arm] = std::numeric_limits<float>::quiet_NaN();
    }
    confidence_.back() = std::numeric_limits<float>::quiet_NaN();
    evaluated_ = 0;
    exits_ = 0;
    outcome_.plan = policy_.plan(link);
  }

  template <class Network>
  ExitReading evaluate(Network& network, std::size_t arm) {
    const ExitReading reading = network.evaluate(arm);
    confidence_[arm] = reading.confidence;
    evaluated_ = arm + 1;
    ++exits_;
    return reading;
  }

  template <class Network>
  void walk(Network& network) {
    const Plan& plan = outcome_.plan;
    for (std::size_t arm = plan.every_exit ? 0 : plan.arm;; ++arm) {
      const ExitReading reading = evaluate(network, arm);
      const Action action = policy_.decide(plan, arm, reading);
      if (action == Action::kExit) return finish_at(arm, reading.confidence);
      if (action == Action::kOffload) return send(network, arm);
      if (arm == plan.arm) break;
    }
    SPLITEE_CHECK(plan.link != Link::kUp && plan.arm != last());
    finish_at(last(), evaluate(network, last()).confidence);
  }

  template <class Network>
  void send(Network& network, std::size_t arm) {
    SPLITEE_CHECK(outcome_.plan.link == Link::kUp);
    const std::optional<float> answer = network.offload(arm);
    outcome_.exit_arm = last();
    if (answer) {
      const std::size_t layers = arm == kOffloadAtOnce ? 0 : layer_of_[arm];
      outcome_.route = Route::kOffload;
      outcome_.answer_confidence = *answer;
      outcome_.cost = costs_.cost(layers, exits_, true);
    } else {
      outcome_.route = Route::kFallback;
      outcome_.answer_confidence = evaluate(network, last()).confidence;
      outcome_.cost = costs_.cost(layer_of_.back(), exits_, true);
    }
  }

  void finish_at(std::size_t arm, float confidence) {
    outcome_.route = arm == last() ? Route::kFinal : Route::kExit;
    outcome_.exit_arm = arm;
    outcome_.answer_confidence = confidence;
    outcome_.cost = costs_.cost(layer_of_[arm], exits_, false);
  }

  std::size_t last() const { return layer_of_.size() - 1; }

  Policy& policy_;
  std::vector<std::size_t> layer_of_;
  CostModel costs_;
  std::vector<float> confidence_;
  std::size_t evaluated_ = 0;  // entries of confidence_ below it may be set
  std::size_t exits_ = 0;
  Outcome outcome_;
};

}  // namespace splitee::policy
