#include "policy/replay.h"

#include <algorithm>
#include <numeric>

#include "policy/replay_recorder.h"
#include "policy/rng.h"
#include "policy/session.h"

namespace splitee::policy {
namespace {

using runtime::Code;
using runtime::Result;
using runtime::Status;

constexpr std::size_t kPrefetchAhead = 8;  // samples; hides the memory's latency in a shuffle

std::string_view policy_name(const ReplayOptions& options) {
  if (options.policy == "oracle") return "fixed";
  return options.policy;
}

// Every exit's answer to one sample.
struct TraceRow {
  const float* confidence;
  const ClassNumber* prediction;
  std::size_t exits;
  std::size_t classes;

  ExitReading evaluate(std::size_t arm) const {
    return {.confidence = confidence[arm],
            .prediction = static_cast<std::size_t>(prediction[arm]),
            .classes = classes,
            .probabilities = {}};
  }
  std::optional<float> offload(std::size_t) const { return confidence[exits - 1]; }
};

// True reward of every arm on a sample, over a link that never fails.
class ArmRewards {
 public:
  ArmRewards(const PolicyOptions& options, bool every_exit)
      : costs_(options.costs), alpha_(static_cast<float>(options.alpha)) {
    for (std::size_t arm = 0; arm < options.arms(); ++arm) {
      const std::size_t exits = every_exit ? arm + 1 : 1;
      exit_cost_.push_back(costs_.cost(options.layer_of[arm], exits, false));
      offload_cost_.push_back(costs_.cost(options.layer_of[arm], exits, true));
    }
  }
  double reward(const float* confidence, std::size_t arm) const {
    const std::size_t last = exit_cost_.size() - 1;
    const bool here = arm == last || confidence[arm] >= alpha_;
    return costs_.reward(static_cast<double>(confidence[here ? arm : last]),
                         here ? exit_cost_[arm] : offload_cost_[arm]);
  }

 private:
  CostModel costs_;
  float alpha_;
  std::vector<double> exit_cost_, offload_cost_;
};

class Replayer {
 public:
  Replayer(const Trace& trace, const ReplayOptions& options)
      : trace_(trace),
        options_(options),
        policy_options_(options.policy_options),
        confidence_(trace.confidence.begin(), trace.confidence.end()),
        classes_(trace.classes()),
        rewards_(policy_options_, evaluates_every_exit()) {
    mean_reward_.resize(trace.exits);
    for (std::size_t sample = 0; sample < trace.samples(); ++sample) {
      for (std::size_t arm = 0; arm < trace.exits; ++arm) {
        mean_reward_[arm] += rewards_.reward(&confidence_[sample * trace.exits], arm);
      }
    }
    for (double& reward : mean_reward_) reward /= static_cast<double>(trace.samples());
    best_arm_ =
        static_cast<std::size_t>(std::ranges::max_element(mean_reward_) - mean_reward_.begin());
    if (options.policy == "oracle") policy_options_.fixed_arm = best_arm_;
  }

  Result<ReplayResult> replay() {
    Recorder recorder(trace_, options_);
    std::vector<std::uint32_t> order(trace_.samples());
    std::uint64_t rejected = 0;
    for (std::size_t run = 0; run < options_.runs; ++run) {
      const std::uint64_t run_seed = mix_seed(options_.seed) + run;
      std::iota(order.begin(), order.end(), 0u);
      if (options_.order == Order::kShuffled) {
        Rng rng(run_seed);
        shuffle(std::span(order), rng);
      }
      policy_options_.seed = mix_seed(run_seed);
      const Result<std::unique_ptr<Policy>> policy =
          make_policy(policy_name(options_), policy_options_);
      if (!policy.ok()) return policy.status();
      run_once(**policy, order, recorder);
      rejected += (*policy)->rejected();
    }
    const std::size_t layers = policy_options_.layer_of.back();
    const CostModel& costs = policy_options_.costs;
    ReplayResult result = recorder.result(costs.cost(layers, 1, false) / costs.lambda());
    result.best_arm = best_arm_;
    result.mean_reward = mean_reward_;
    result.rejected = rejected;
    return result;
  }

 private:
  bool evaluates_every_exit() const {
    const auto list = policy_list();
    const auto* info = std::ranges::find(list, options_.policy, &PolicyInfo::name).base();
    return info != std::to_address(list.end()) && info->every_exit;
  }

  void prefetch(std::uint32_t sample) const {
    const std::size_t row = sample * trace_.exits;
    __builtin_prefetch(&confidence_[row]);
    __builtin_prefetch(&confidence_[row + trace_.exits - 1]);
    __builtin_prefetch(&trace_.prediction[row]);
    __builtin_prefetch(&trace_.label[sample]);
  }

  void run_once(Policy& policy, std::span<const std::uint32_t> order, Recorder& recorder) const {
    Session session(policy, policy_options_);
    const CostModel& costs = policy_options_.costs;
    const double per_lambda = 1.0 / costs.lambda();
    recorder.begin_run();
    for (std::size_t t = 0; t < order.size(); ++t) {
      prefetch(order[std::min(t + kPrefetchAhead, order.size() - 1)]);
      const std::size_t sample = order[t];
      const float* confidence = &confidence_[sample * trace_.exits];
      const TraceRow row{confidence, &trace_.prediction[sample * trace_.exits], trace_.exits,
                         classes_};
      const Outcome& outcome = session.run(Link::kUp, row);
      const auto answer = static_cast<double>(outcome.answer_confidence);
      recorder.add({.sample = sample,
                    .arm = outcome.plan.arm,
                    .route = outcome.route,
                    .exit_arm = outcome.exit_arm,
                    .reward = costs.reward(answer, outcome.cost),
                    .best_reward = rewards_.reward(confidence, best_arm_),
                    .cost = outcome.cost * per_lambda});
    }
    recorder.end_run();
  }

  const Trace& trace_;
  const ReplayOptions& options_;
  PolicyOptions policy_options_;
  std::vector<float> confidence_;
  std::size_t classes_;
  ArmRewards rewards_;
  std::vector<double> mean_reward_;
  std::size_t best_arm_ = 0;
};

Status check(const Trace& trace, const ReplayOptions& options) {
  const auto refuse = [](const std::string& why) { return Status(Code::kInvalidArgument, why); };
  if (options.runs == 0) return refuse("runs must be at least 1");
  if (trace.samples() == 0 || trace.exits == 0) return refuse("the trace has no samples");
  if (trace.samples() > std::numeric_limits<std::uint32_t>::max()) {
    return refuse("the trace has more than 2^32 - 1 samples");
  }
  if (options.policy_options.arms() != trace.exits) {
    return refuse("the trace has " + std::to_string(trace.exits) + " exits, the options name " +
                  std::to_string(options.policy_options.arms()));
  }
  // The policy's own checks, before any work.
  return make_policy(policy_name(options), options.policy_options).status();
}

}  // namespace

Result<ReplayResult> replay(const Trace& trace, const ReplayOptions& options) {
  ReplayOptions complete = options;
  std::vector<std::size_t>& layers = complete.policy_options.layer_of;
  if (layers.empty()) {
    layers.resize(trace.exits);
    std::iota(layers.begin(), layers.end(), std::size_t{1});
  }
  if (Status status = check(trace, complete); !status.ok()) return status;
  return Replayer(trace, complete).replay();
}

}  // namespace splitee::policy
