// Drives one sample at a time through a policy and a network, and accounts for it: the one place
// where "how far it ran, which exits, was it sent" becomes a cost. The live edge loop and the
// replay of a trace are the same code with two networks.
//
// Cost per route, with layers and exits as really run on the edge:
//   exit, final, audit
//                 lambda1 * layers + lambda2 * exits
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
//   std::optional<ServerReply> offload(std::size_t arm);
//                                                     for run() only: the server's answer (or its
//                                                     confidence alone), or nothing if the link
//                                                     failed; arm may be kOffloadAtOnce
// Thread rule: one thread at a time. Ownership: borrows the policy, which must outlive it.
#pragma once

#include <algorithm>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/status.h"
#include "policy/policy.h"

namespace splitee::policy {

// What a server said of a sample.
struct ServerReply {
  ServerReply(float of, std::uint32_t what = kNoClass) : confidence(of), class_index(what) {}
  float confidence;
  std::uint32_t class_index;
};

// One sample on its way. May be used again for another sample.
struct Episode {
  // Complete once the sample is answered. Its view of the confidences is valid while the episode
  // lives.
  Outcome outcome;
  std::size_t sent_from = 0;  // arm it is sent from, or kOffloadAtOnce; where start() says kSend
  std::vector<float> confidence;       // per arm, NaN where not evaluated
  std::vector<std::uint32_t> classes;  // per arm, kNoClass where not evaluated
  std::size_t evaluated = 0;           // entries below it may be set
  std::size_t exits = 0;               // evaluated so far
};

class EpisodeRunner {
 public:
  enum class Step { kAnswered, kSend };

  // `options` are those that the policy was made with.
  EpisodeRunner(Policy& policy, const PolicyOptions& options)
      : policy_(policy), layer_of_(options.layer_of), costs_(options.costs) {
    clear(episode_);
  }

  // What samples cost from now on; to be told to the policy too.
  void set_costs(const CostModel& costs) { costs_ = costs; }
  const CostModel& costs() const { return costs_; }

  // Plans a sample and runs it until it is answered, or has to be sent from episode.sent_from.
  template <class Network>
  Step start(Episode& episode, LinkState link, Network&& network) {
    clear(episode);
    episode.outcome.plan = policy_.plan(link);
    const Plan& plan = episode.outcome.plan;
    if (plan.arm == kOffloadAtOnce && plan.link == LinkState::kUp)
      return send(episode, kOffloadAtOnce);
    if (plan.arm == kOffloadAtOnce) return finish_at(episode, last(), network);
    SPLITEE_CHECK(plan.arm < layer_of_.size());
    return plan.first == kAsPlanned ? walk(episode, network) : follow(episode, network);
  }

  // Ends a sample that was sent. `answer`: the server's; nothing where the link failed, then the
  // network, set to where the sample was, runs it to the end. `offload_cost`: what the sending
  // cost.
  template <class Network>
  void finish(Episode& episode, std::optional<ServerReply> answer, Network&& network,
              double offload_cost) {
    Outcome& outcome = episode.outcome;
    outcome.exit_arm = last();
    if (answer) {
      const std::size_t layers =
          episode.sent_from == kOffloadAtOnce ? 0 : layer_of_[episode.sent_from];
      outcome.route = Route::kOffload;
      outcome.answer_confidence = answer->confidence;
      outcome.answer_class = answer->class_index;
      outcome.cost = costs_.cost(layers, episode.exits, false) + offload_cost;
    } else {
      outcome.route = Route::kFallback;
      take_answer(outcome, evaluate(episode, last(), network));
      outcome.cost = costs_.cost(layer_of_.back(), episode.exits, false) + offload_cost;
    }
  }

  // The policy sees an answered sample. To be called once for each.
  void learn(Episode& episode) {
    episode.outcome.confidence = episode.confidence;
    episode.outcome.classes = episode.classes;
    policy_.observe(episode.outcome);
  }

  // Runs one sample and lets the policy learn from it. The outcome is valid until the next call.
  template <class Network>
  const Outcome& run(LinkState link, Network&& network) {
    if (start(episode_, link, network) == Step::kSend) {
      finish(episode_, network.offload(episode_.sent_from), network, offload_cost(episode_));
    }
    learn(episode_);
    return episode_.outcome;
  }

  // What the costs of now say of sending a sample from where it is.
  double offload_cost(const Episode& episode) const {
    return costs_.offload_from(episode.sent_from == kOffloadAtOnce ? 0
                                                                   : layer_of_[episode.sent_from]);
  }

 private:
  void clear(Episode& episode) const {
    constexpr float kNothing = std::numeric_limits<float>::quiet_NaN();
    if (episode.confidence.size() != layer_of_.size()) {
      episode.confidence.assign(layer_of_.size(), kNothing);
      episode.classes.assign(layer_of_.size(), kNoClass);
    }
    std::fill_n(episode.confidence.begin(), episode.evaluated, kNothing);
    std::fill_n(episode.classes.begin(), episode.evaluated, kNoClass);
    episode.confidence.back() = kNothing;
    episode.classes.back() = kNoClass;
    episode.outcome.would_answer = kNoExit;
    episode.outcome.answer_class = kNoClass;
    episode.outcome.feedback = kNoClass;
    episode.evaluated = 0;
    episode.exits = 0;
  }

  template <class Network>
  ExitReading evaluate(Episode& episode, std::size_t arm, Network& network) {
    const ExitReading reading = network.evaluate(arm);
    episode.confidence[arm] = reading.confidence;
    episode.classes[arm] = static_cast<std::uint32_t>(reading.prediction);
    episode.evaluated = arm + 1;
    ++episode.exits;
    return reading;
  }

  template <class Network>
  Step walk(Episode& episode, Network& network) {
    const Plan& plan = episode.outcome.plan;
    for (std::size_t arm = plan.every_exit ? 0 : plan.arm;; ++arm) {
      if constexpr (requires { network.will_go_on(); }) {
        if (arm != plan.arm && !plan.may_end_early) network.will_go_on();
      }
      const ExitReading reading = evaluate(episode, arm, network);
      const Action action = policy_.decide(plan, arm, reading);
      if (action.kind == Action::kExit) return answer_at(episode, arm, reading);
      if (action.kind == Action::kOffload) return send(episode, arm);
      if (arm == plan.arm) break;
    }
    SPLITEE_CHECK(plan.arm != last());
    return finish_at(episode, last(), network);
  }

  // A policy that names the exits to look at, one after the other.
  template <class Network>
  Step follow(Episode& episode, Network& network) {
    const Plan& plan = episode.outcome.plan;
    bool audited = plan.every_exit;
    for (std::size_t arm = plan.first;;) {
      SPLITEE_CHECK(arm < layer_of_.size());
      if constexpr (requires { network.will_go_on(); }) {
        if (audited && arm != last()) network.will_go_on();
      }
      const ExitReading reading = evaluate(episode, arm, network);
      const Action action = policy_.decide(plan, arm, reading);
      audited = audited || action.audit;
      if (action.would_answer) episode.outcome.would_answer = arm;
      if (action.kind == Action::kExit) {
        answer_at(episode, arm, reading);
        if (audited) episode.outcome.route = Route::kAudit;
        return Step::kAnswered;
      }
      if (action.kind == Action::kOffload) return send(episode, arm);
      SPLITEE_CHECK(action.next > arm);
      arm = action.next;
    }
  }

  Step send(Episode& episode, std::size_t arm) const {
    SPLITEE_CHECK(episode.outcome.plan.link == LinkState::kUp);
    episode.sent_from = arm;
    return Step::kSend;
  }

  template <class Network>
  Step finish_at(Episode& episode, std::size_t arm, Network& network) {
    return answer_at(episode, arm, evaluate(episode, arm, network));
  }

  static void take_answer(Outcome& outcome, const ExitReading& reading) {
    outcome.answer_confidence = reading.confidence;
    outcome.answer_class = static_cast<std::uint32_t>(reading.prediction);
  }

  Step answer_at(Episode& episode, std::size_t arm, const ExitReading& reading) const {
    episode.outcome.route = arm == last() ? Route::kFinal : Route::kExit;
    episode.outcome.exit_arm = arm;
    take_answer(episode.outcome, reading);
    episode.outcome.cost = costs_.cost(layer_of_[arm], episode.exits, false);
    return Step::kAnswered;
  }

  std::size_t last() const { return layer_of_.size() - 1; }

  Policy& policy_;
  std::vector<std::size_t> layer_of_;
  CostModel costs_;
  Episode episode_;  // of run()
};

}  // namespace splitee::policy
