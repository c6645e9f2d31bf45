#include "bench/decision/run.h"

#include <algorithm>
#include <numeric>

#include "policy/episode.h"

namespace splitee::bench {
namespace {

constexpr std::size_t kLookAtBound = 100;  // samples
constexpr std::size_t kLate = 5000;
constexpr std::size_t kAlarmWindow = 100;

struct SampleNetwork {
  const Stream& stream;
  std::size_t sample;

  policy::ExitReading evaluate(std::size_t exit) const {
    const std::size_t at = sample * stream.exits + exit;
    return {.confidence = stream.confidence[at],
            .prediction = static_cast<std::size_t>(stream.answer[at]),
            .classes = 2,
            .probabilities = {}};
  }
  std::optional<float> offload(std::size_t) const {
    return stream.confidence[(sample + 1) * stream.exits - 1];
  }
};

// The exit that answered, or would have without the audit; the last one for what was sent.
std::size_t answered_at(const policy::Outcome& outcome, std::size_t last) {
  if (outcome.route == policy::Route::kExit) return outcome.exit_arm;
  return outcome.would_answer < last ? outcome.would_answer : last;
}

// What the sample would have cost by the rule alone: an estimate from the exits seen; exact where
// the rule looks at one exit. Audits are charged all that they cost beyond a mean sample.
double beyond_rule(const policy::Outcome& outcome, double mean_without) {
  return outcome.route == policy::Route::kAudit ? outcome.cost - mean_without : 0.0;
}

}  // namespace

policy::PolicyOptions options_for(const Stream& stream, const Prices& prices, double limit,
                                  std::uint64_t seed) {
  policy::PolicyOptions options;
  options.layer_of.resize(stream.exits);
  std::iota(options.layer_of.begin(), options.layer_of.end(), std::size_t{1});
  options.costs = {.lambda1 = prices.layer, .lambda2 = prices.head};
  options.costs.offload = prices.link() ? prices.offload : 0.0;
  options.max_disagreement = limit;
  options.seed = seed;
  return options;
}

RunResult run(const Stream& stream, const Prices& prices, const std::string& name,
              const policy::PolicyOptions& options, std::span<const std::uint32_t> order,
              std::size_t watch_from) {
  const auto policy = policy::make_policy(name, options);
  SPLITEE_CHECK(policy.ok());
  policy::EpisodeRunner session(**policy, options);
  const policy::LinkState link = prices.link() ? policy::LinkState::kUp : policy::LinkState::kNone;
  const std::size_t last = stream.exits - 1, half = order.size() / 2;
  const double limit = options.max_disagreement;
  const double from = held_from(limit);
  const std::size_t late = order.size() > kLate + 1000 ? kLate : half;
  RunResult result;
  double unaudited = 0.0, unaudited_cost = 0.0, recent_audits = 0.0;
  for (std::size_t t = 0; t < order.size(); ++t) {
    const policy::Outcome& outcome = session.run(link, SampleNetwork{stream, order[t]});
    const std::size_t exit = answered_at(outcome, last);
    const double differs = exit < last && stream.differs(order[t], exit) ? 1.0 : 0.0;
    const bool audit = outcome.route == policy::Route::kAudit;
    if (!audit) {
      unaudited += 1.0;
      unaudited_cost += outcome.cost;
    }
    const double extra = beyond_rule(outcome, unaudited > 0 ? unaudited_cost / unaudited : 0.0);
    const auto add = [&](Part& part) {
      ++part.samples;
      part.cost += outcome.cost;
      part.audits += extra;
      part.differing += differs;
    };
    add(result.whole);
    if (t >= half) add(result.second);
    if (t >= late) add(result.late);
    result.audited += audit ? 1 : 0;
    recent_audits += (audit ? 1.0 : 0.0) - recent_audits / kAlarmWindow;
    if (t >= watch_from && watch_from > 0 && result.first_alarm == 0 &&
        recent_audits > 0.2 * kAlarmWindow) {
      result.first_alarm = t + 1;
    }
    const auto count = static_cast<double>(t + 1);
    if (count >= from && result.whole.differing > limit * count) result.over = true;
    if ((t + 1) % kLookAtBound != 0 && t + 1 != order.size()) continue;
    if (const auto report = (*policy)->disagreement()) {
      result.upper = report->upper;
      if (report->upper * count < result.whole.differing - 1e-6) result.bound_broken = true;
    }
  }
  return result;
}

}  // namespace splitee::bench
