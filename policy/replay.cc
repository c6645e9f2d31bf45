#include "policy/replay.h"

#include <algorithm>
#include <numeric>

#include "policy/paper_replay.h"
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

std::uint64_t run_seed(const ReplayOptions& options, std::size_t run) {
  return mix_seed(options.seed) + run;
}

// Every exit's confidence, and whether it was right, sample by sample. A row of up to 12 exits is
// one cache line: in a shuffled order the memory is what a replay waits for.
class Rows {
 public:
  explicit Rows(const Trace& trace) : exits_(trace.exits) {
    const std::size_t row_bytes = exits_ * (sizeof(float) + 1);
    lines_per_row_ = (row_bytes + sizeof(Line) - 1) / sizeof(Line);
    lines_.resize(trace.samples() * lines_per_row_);
    for (std::size_t sample = 0; sample < trace.samples(); ++sample) {
      for (std::size_t exit = 0; exit < exits_; ++exit) {
        const std::size_t from = sample * exits_ + exit;
        mutable_confidence(sample)[exit] = static_cast<float>(trace.confidence[from]);
        correct(sample)[exit] = trace.label[sample] == trace.prediction[from] ? 1 : 0;
      }
    }
  }
  const float* confidence(std::size_t sample) const { return lines_[line(sample)].values; }
  bool is_correct(std::size_t sample, std::size_t exit) const {
    return reinterpret_cast<const unsigned char*>(confidence(sample) + exits_)[exit] != 0;
  }
  void prefetch(std::size_t sample) const { __builtin_prefetch(confidence(sample)); }

 private:
  struct alignas(64) Line {
    float values[16] = {};
  };
  std::size_t line(std::size_t sample) const { return sample * lines_per_row_; }
  float* mutable_confidence(std::size_t sample) { return lines_[line(sample)].values; }
  unsigned char* correct(std::size_t sample) {
    return reinterpret_cast<unsigned char*>(mutable_confidence(sample) + exits_);
  }

  std::size_t exits_;
  std::size_t lines_per_row_;
  std::vector<Line> lines_;
};

// One sample of a trace as a network that never fails.
struct TraceNetwork {
  const float* confidence;
  const ClassNumber* prediction;
  std::size_t exits;
  std::size_t classes;
  bool with_prediction;  // reading it costs a cache line; few policies look at it

  ExitReading evaluate(std::size_t arm) const {
    return {.confidence = confidence[arm],
            .prediction = with_prediction ? static_cast<std::size_t>(prediction[arm]) : 0,
            .classes = classes,
            .probabilities = {}};
  }
  std::optional<float> offload(std::size_t) const { return confidence[exits - 1]; }
};

// True reward of every arm on a sample, over a link that never fails.
class ArmRewards {
 public:
  ArmRewards(const PolicyOptions& options, const PolicyInfo& info)
      : costs_(options.costs), alpha_(static_cast<float>(options.alpha)) {
    for (std::size_t arm = 0; arm < options.arms(); ++arm) {
      const std::size_t exits = info.every_exit ? arm + 1 : 1;
      const double here = costs_.cost(options.layer_of.back(), exits + 1, false);
      const double sent = costs_.cost(options.layer_of[arm], exits, true);
      exit_cost_.push_back(costs_.cost(options.layer_of[arm], exits, false));
      miss_cost_.push_back(info.stays_here ? std::min(here, sent) : sent);
    }
  }
  double reward(const float* confidence, std::size_t arm) const {
    const std::size_t last = exit_cost_.size() - 1;
    const bool here = arm == last || confidence[arm] >= alpha_;
    return costs_.reward(static_cast<double>(confidence[here ? arm : last]),
                         here ? exit_cost_[arm] : miss_cost_[arm]);
  }

 private:
  CostModel costs_;
  float alpha_;
  std::vector<double> exit_cost_, miss_cost_;
};

// A stretch of a run with the same costs, and the best arm under them.
struct Segment {
  std::size_t begin = 0;
  CostModel costs;
  ArmRewards rewards;
  std::vector<double> mean_reward;
  std::size_t best_arm = 0;
};

class Replayer {
 public:
  Replayer(const Trace& trace, const ReplayOptions& options)
      : trace_(trace),
        options_(options),
        policy_options_(options.policy_options),
        rows_(trace),
        classes_(trace.classes()),
        info_(info_of(options.policy)) {
    add_segment(0, policy_options_.costs);
    for (const CostChange& change : options.changes) {
      CostModel costs = policy_options_.costs;
      costs.offload = change.offload;
      add_segment(change.t, costs);
    }
    if (options.policy == "oracle") policy_options_.fixed_arm = segments_.front().best_arm;
  }

  Result<ReplayResult> replay() {
    Recorder recorder(trace_, options_);
    std::vector<std::uint32_t> order(trace_.samples());
    std::uint64_t rejected = 0;
    for (std::size_t run = 0; run < options_.runs; ++run) {
      fill_order(options_, run, order);
      policy_options_.seed = mix_seed(run_seed(options_, run));
      const Result<std::unique_ptr<Policy>> policy =
          make_policy(policy_name(options_), policy_options_);
      if (!policy.ok()) return policy.status();
      if (Status status = run_once(**policy, order, recorder); !status.ok()) return status;
      rejected += (*policy)->rejected();
    }
    const std::size_t layers = policy_options_.layer_of.back();
    const CostModel& costs = policy_options_.costs;
    ReplayResult result = recorder.result(costs.cost(layers, 1, false) / costs.lambda());
    result.best_arm = segments_.front().best_arm;
    result.mean_reward = segments_.front().mean_reward;
    result.rejected = rejected;
    return result;
  }

 private:
  static PolicyInfo info_of(std::string_view name) {
    for (const PolicyInfo& info : policy_list()) {
      if (info.name == name) return info;
    }
    return {};
  }

  void add_segment(std::size_t begin, const CostModel& costs) {
    PolicyOptions options = policy_options_;
    options.costs = costs;
    Segment segment{.begin = begin,
                    .costs = costs,
                    .rewards = ArmRewards(options, info_),
                    .mean_reward = std::vector<double>(trace_.exits)};
    std::vector<double>& mean = segment.mean_reward;
    for (std::size_t sample = 0; sample < trace_.samples(); ++sample) {
      for (std::size_t arm = 0; arm < trace_.exits; ++arm) {
        mean[arm] += segment.rewards.reward(rows_.confidence(sample), arm);
      }
    }
    for (double& reward : mean) reward /= static_cast<double>(trace_.samples());
    segment.best_arm = static_cast<std::size_t>(std::ranges::max_element(mean) - mean.begin());
    segments_.push_back(std::move(segment));
  }

  Status run_once(Policy& policy, std::span<const std::uint32_t> order, Recorder& recorder) const {
    Session session(policy, policy_options_);
    const double per_lambda = 1.0 / policy_options_.costs.lambda();
    std::size_t segment = 0;
    recorder.begin_run();
    for (std::size_t t = 0; t < order.size(); ++t) {
      if (segment + 1 < segments_.size() && segments_[segment + 1].begin == t) {
        const CostModel& costs = segments_[++segment].costs;
        session.set_costs(costs);
        if (Status status = policy.set_costs(costs); !status.ok()) return status;
      }
      rows_.prefetch(order[std::min(t + kPrefetchAhead, order.size() - 1)]);
      const std::size_t sample = order[t];
      const float* confidence = rows_.confidence(sample);
      const TraceNetwork network{confidence, &trace_.prediction[sample * trace_.exits],
                                 trace_.exits, classes_, info_.reads_predictions};
      const Outcome& outcome = session.run(Link::kUp, network);
      const auto answer = static_cast<double>(outcome.answer_confidence);
      recorder.add({.sample = sample,
                    .arm = outcome.plan.arm,
                    .route = outcome.route,
                    .exit_arm = outcome.exit_arm,
                    .correct = rows_.is_correct(sample, outcome.exit_arm),
                    .reward = segments_[segment].costs.reward(answer, outcome.cost),
                    .best_reward = best_reward(segments_[segment], confidence),
                    .cost = outcome.cost * per_lambda});
    }
    recorder.end_run();
    return {};
  }

  static double best_reward(const Segment& segment, const float* confidence) {
    return segment.rewards.reward(confidence, segment.best_arm);
  }

  const Trace& trace_;
  const ReplayOptions& options_;
  PolicyOptions policy_options_;
  Rows rows_;
  std::size_t classes_;
  PolicyInfo info_;
  std::vector<Segment> segments_;
};

Status check_changes(const Trace& trace, const ReplayOptions& options) {
  const auto refuse = [](const std::string& why) { return Status(Code::kInvalidArgument, why); };
  if (!options.changes.empty() && options.semantics == Semantics::kPaper) {
    return refuse("costs cannot change with paper semantics");
  }
  std::size_t after = 0;
  for (const CostChange& change : options.changes) {
    if (change.t <= after || change.t >= trace.samples()) {
      return refuse("cost change at sample " + std::to_string(change.t) +
                    ": samples must ascend, from 1 to " + std::to_string(trace.samples() - 1));
    }
    after = change.t;
    CostModel costs = options.policy_options.costs;
    costs.offload = change.offload;
    if (Status status = check_costs(costs); !status.ok()) return status;
  }
  return {};
}

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
  if (Status status = check_changes(trace, options); !status.ok()) return status;
  // The policy's own checks, before any work.
  if (options.semantics == Semantics::kPaper) {
    return make_policy("splitee", options.policy_options).status();
  }
  return make_policy(policy_name(options), options.policy_options).status();
}

}  // namespace

void fill_order(const ReplayOptions& options, std::size_t run, std::span<std::uint32_t> order) {
  std::iota(order.begin(), order.end(), 0u);
  if (options.order == Order::kFile) return;
  Rng rng(run_seed(options, run));
  shuffle(order, rng);
}

Result<ReplayResult> replay(const Trace& trace, const ReplayOptions& options) {
  ReplayOptions complete = options;
  std::vector<std::size_t>& layers = complete.policy_options.layer_of;
  if (layers.empty()) {
    layers.resize(trace.exits);
    std::iota(layers.begin(), layers.end(), std::size_t{1});
  }
  if (Status status = check(trace, complete); !status.ok()) return status;
  if (options.semantics == Semantics::kPaper) return replay_paper(trace, complete);
  return Replayer(trace, complete).replay();
}

}  // namespace splitee::policy
