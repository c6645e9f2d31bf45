#include "policy/replay/replay.h"

#include <algorithm>
#include <numeric>

#include "base/rng.h"
#include "policy/episode.h"
#include "policy/replay/paper_replay.h"
#include "policy/replay/replay_recorder.h"

namespace splitee::policy {
namespace {

constexpr std::size_t kPrefetchAhead = 8;  // samples; hides the memory's latency in a shuffle
constexpr std::size_t kMostWindow = 256;   // as of an edge
constexpr std::size_t kTellEvery = std::size_t{1} << 17;  // samples

constexpr std::string_view kOracle = "oracle";
constexpr PolicyInfo kReplayOnly[] = {
    {.name = kOracle, .summary = "the best fixed split in hindsight"},
    {.name = "threshold-published",
     .summary = "with --semantics paper: the published baseline, an exit late",
     .looks = Looks::kUpToSplit,
     .sends = false},
};

std::string_view policy_name(const ReplayOptions& options) {
  if (options.policy == kOracle) return "fixed";
  return options.policy;
}

Result<std::unique_ptr<Policy>> make(const ReplayOptions& options, const PolicyOptions& of_run) {
  if (options.own_policy) return options.own_policy(of_run);
  return make_policy(policy_name(options), of_run);
}

// Every exit's confidence, and whether it was right, sample by sample. A row of up to 12 exits is
// one cache line: in a shuffled order the memory is what a replay waits for.
class Rows {
 public:
  explicit Rows(const Trace& trace) : exits_(trace.exits) {
    const std::size_t row_bytes = exits_ * (sizeof(float) + 1);
    row_floats_ = (row_bytes + kLineBytes - 1) / kLineBytes * kLineFloats;
    values_.resize(trace.samples() * row_floats_ + kLineFloats);
    const auto misplaced = reinterpret_cast<std::uintptr_t>(values_.data()) % kLineBytes;
    if (misplaced != 0) first_ = (kLineBytes - misplaced) / sizeof(float);
    for (std::size_t sample = 0; sample < trace.samples(); ++sample) {
      for (std::size_t exit = 0; exit < exits_; ++exit) {
        const std::size_t from = sample * exits_ + exit;
        values_[row(sample) + exit] = static_cast<float>(trace.confidence[from]);
        const ClassNumber answer = trace.prediction[from];
        const bool differs = answer != trace.prediction[(sample + 1) * exits_ - 1];
        marks(sample)[exit] = static_cast<unsigned char>(
            (trace.label[sample] == answer ? kCorrect : 0) | (differs ? kDiffers : 0));
      }
    }
  }
  const float* confidence(std::size_t sample) const { return values_.data() + row(sample); }
  bool is_correct(std::size_t sample, std::size_t exit) const {
    return (mark(sample, exit) & kCorrect) != 0;
  }
  // From the last exit.
  bool differs(std::size_t sample, std::size_t exit) const {
    return (mark(sample, exit) & kDiffers) != 0;
  }
  void prefetch(std::size_t sample) const { __builtin_prefetch(confidence(sample)); }

 private:
  enum : unsigned char { kCorrect = 1, kDiffers = 2 };
  static constexpr std::size_t kLineBytes = 64, kLineFloats = kLineBytes / sizeof(float);

  unsigned char mark(std::size_t sample, std::size_t exit) const {
    return reinterpret_cast<const unsigned char*>(confidence(sample) + exits_)[exit];
  }
  unsigned char* marks(std::size_t sample) {
    return reinterpret_cast<unsigned char*>(&values_[row(sample) + exits_]);
  }

  std::size_t row(std::size_t sample) const { return first_ + sample * row_floats_; }

  std::size_t exits_, row_floats_ = 0;
  std::size_t first_ = 0;  // of values_, at the beginning of a line
  std::vector<float> values_;
};

// One sample of a trace as a network that never fails.
struct TraceNetwork {
  const float* confidence;
  const ClassNumber* prediction;
  std::size_t classes;
  bool with_prediction;  // reading it costs a cache line; few policies look at it

  ExitReading evaluate(std::size_t arm) const {
    return {.confidence = confidence[arm],
            .prediction = with_prediction ? static_cast<std::size_t>(prediction[arm]) : kNoClass,
            .classes = classes,
            .probabilities = {}};
  }
};

// The paper's reward of every split on a sample, over a link that never fails: one head is paid at
// the split, and what is not sure there is sent, or where there is no server runs on. The same for
// every policy, whatever that looks at or where it sends.
class ArmRewards {
 public:
  ArmRewards(const PolicyOptions& options, bool server)
      : costs_(options.costs), alpha_(static_cast<float>(options.alpha)) {
    const double on = costs_.cost(options.layer_of.back(), 2, false);
    for (const std::size_t layer : options.layer_of) {
      exit_cost_.push_back(costs_.cost(layer, 1, false));
      const double sent = costs_.cost(layer, 1, false) + costs_.offload_from(layer);
      miss_cost_.push_back(server ? sent : on);
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
        info_(info_of(options)) {
    add_segment(0, policy_options_.costs);
    for (const CostChange& change : options.changes) {
      CostModel costs = policy_options_.costs;
      costs.offload = change.offload;
      costs.offload_by_layer.clear();
      add_segment(change.t, costs);
    }
    if (options.policy == kOracle) policy_options_.fixed_arm = segments_.front().best_arm;
  }

  Result<ReplayResult> replay() {
    Recorder recorder(trace_, options_);
    std::vector<std::uint32_t> order(trace_.samples());
    std::uint64_t rejected = 0;
    for (std::size_t run = 0; run < options_.runs; ++run) {
      fill_order(options_, run, order);
      policy_options_.seed = mix_seed(run_seed(options_, run));
      const Result<std::unique_ptr<Policy>> policy = make(options_, policy_options_);
      if (!policy.ok()) return policy.status();
      if (Status status = run_once(run, **policy, order, recorder); !status.ok()) return status;
      rejected += (*policy)->rejected();
      if (options_.go_on && !options_.go_on(static_cast<double>(run + 1))) break;
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
  static PolicyInfo info_of(const ReplayOptions& options) {
    const PolicyInfo* known = options.own_policy ? nullptr : find_policy(options.policy);
    PolicyInfo info = known != nullptr ? *known : PolicyInfo{};
    info.reads_predictions = info.reads_predictions || options.own_policy;
    return info;
  }

  void add_segment(std::size_t begin, const CostModel& costs) {
    PolicyOptions options = policy_options_;
    options.costs = costs;
    Segment segment{.begin = begin,
                    .costs = costs,
                    .rewards = ArmRewards(options, options_.server),
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

  Status run_once(std::size_t run, Policy& policy, std::span<const std::uint32_t> order,
                  Recorder& recorder) const {
    EpisodeRunner session(policy, policy_options_);
    const double per_lambda = 1.0 / policy_options_.costs.lambda();
    std::vector<Episode> episodes(options_.window);
    std::size_t segment = 0;
    recorder.begin_run();
    for (std::size_t t = 0; t < order.size(); ++t) {
      Episode& episode = episodes[t % episodes.size()];
      if (t >= episodes.size()) session.learn(episode);
      if (segment + 1 < segments_.size() && segments_[segment + 1].begin == t) {
        const CostModel& costs = segments_[++segment].costs;
        session.set_costs(costs);
        if (Status status = policy.set_costs(costs); !status.ok()) return status;
      }
      if (t % kTellEvery == kTellEvery - 1 && options_.go_on) {
        (void)options_.go_on(static_cast<double>(run) +
                             static_cast<double>(t) / static_cast<double>(order.size()));
      }
      rows_.prefetch(order[std::min(t + kPrefetchAhead, order.size() - 1)]);
      const std::size_t sample = order[t];
      const float* confidence = rows_.confidence(sample);
      const TraceNetwork network{confidence, &trace_.prediction[sample * trace_.exits], classes_,
                                 info_.reads_predictions};
      const LinkState link = options_.server ? LinkState::kUp : LinkState::kNone;
      if (session.start(episode, link, network) == EpisodeRunner::Step::kSend) {
        session.finish(episode, confidence[trace_.exits - 1], network,
                       session.offload_cost(episode));
      }
      const Outcome& outcome = episode.outcome;
      const std::size_t answered =
          outcome.would_answer != kNoExit ? outcome.would_answer : outcome.exit_arm;
      const auto answer = static_cast<double>(outcome.answer_confidence);
      recorder.add({.sample = sample,
                    .arm = arm_of(episode),
                    .route = outcome.route,
                    .exit_arm = outcome.exit_arm,
                    .correct = rows_.is_correct(sample, outcome.exit_arm),
                    .differs = rows_.differs(sample, answered),
                    .reward = segments_[segment].costs.reward(answer, outcome.cost),
                    .best_reward = best_reward(segments_[segment], confidence),
                    .cost = outcome.cost * per_lambda});
    }
    for (std::size_t t = order.size() - std::min(order.size(), episodes.size()); t < order.size();
         ++t) {
      session.learn(episodes[t % episodes.size()]);
    }
    const std::optional<DisagreementReport> report = policy.disagreement();
    recorder.end_run(report ? std::optional(report->upper) : std::nullopt);
    return {};
  }

  // As in the records of an edge: where exits are chosen one by one, the one that answered or that
  // it was sent from.
  static std::size_t arm_of(const Episode& episode) {
    const Outcome& outcome = episode.outcome;
    if (outcome.plan.first == kAsPlanned) return outcome.plan.arm;
    return outcome.route == Route::kOffload ? episode.sent_from : outcome.exit_arm;
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
  if (!options.server && options.semantics == Semantics::kPaper) {
    return refuse("the published scripts always have a server");
  }
  if (options.runs == 0) return refuse("runs must be at least 1");
  if (options.window == 0 || options.window > kMostWindow) {
    return refuse("window must be from 1 to " + std::to_string(kMostWindow));
  }
  if (options.window > 1 && options.semantics == Semantics::kPaper) {
    return refuse("the published scripts learn from each sample at once");
  }
  if (trace.samples() == 0 || trace.exits == 0) return refuse("the trace has no samples");
  if (trace.samples() > std::numeric_limits<std::uint32_t>::max()) {
    return refuse("the trace has more than 2^32 - 1 samples");
  }
  if (options.policy_options.arms() != trace.exits) {
    return refuse("the trace has " + std::to_string(trace.exits) + " exits, the options name " +
                  std::to_string(options.policy_options.arms()));
  }
  if (Status status = check_changes(trace, options); !status.ok()) return status;
  if (options.own_policy && options.semantics == Semantics::kPaper) {
    return refuse("paper semantics are those of the published policies alone");
  }
  // The policy's own checks, before any work.
  if (options.semantics == Semantics::kPaper) {
    return make_policy("splitee", options.policy_options).status();
  }
  if (options.policy == kReplayOnly[1].name) {
    return refuse("--policy " + options.policy + " needs --semantics paper");
  }
  return make(options, options.policy_options).status();
}

}  // namespace

std::span<const PolicyInfo> replay_only_list() {
  return kReplayOnly;
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
