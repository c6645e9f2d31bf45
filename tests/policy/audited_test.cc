// The learner of audited rows: its bound, its limit, its state, its coins.
#include "policy/learners/audited.h"

#include <cmath>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "policy/episode.h"
#include "policy/learners/disagreement_bound.h"
#include "policy/learners/disagreement_estimate.h"
#include "policy/learners/prior_weights.h"
#include "policy/learners/shift_test.h"
#include "policy/replay/replay.h"
#include "tests/policy/planted.h"

namespace splitee::policy {
namespace {

// A stream of exits that differ from the last one with a probability that falls with confidence.
struct Sample {
  std::vector<float> confidence;
  std::vector<std::size_t> answer;
};

class Stream {
 public:
  // `hard`: 0, half of the samples are easy; up to 0.5, none.
  Stream(std::size_t exits, std::uint64_t seed, double hard = 0.0)
      : exits_(exits), hard_(hard), rng_(seed) {}
  // `wrong`: of the sure ones at every exit but the last, whatever their confidence.
  Sample next(double wrong = 0.0) {
    Sample sample;
    const double ease = std::min(1.0, 2.0 * (1.0 - hard_) * rng_.uniform());
    for (std::size_t exit = 0; exit < exits_; ++exit) {
      const double depth = static_cast<double>(exit + 1) / static_cast<double>(exits_);
      const double doubt = 0.5 * (1.0 - ease) * (1.0 - depth);
      const bool last = exit + 1 == exits_;
      const bool differs = !last && (rng_.uniform() < doubt || rng_.uniform() < wrong);
      sample.confidence.push_back(static_cast<float>(1.0 - 0.9 * doubt - 0.02 * rng_.uniform()));
      sample.answer.push_back(differs ? 0 : 1);
    }
    return sample;
  }

 private:
  std::size_t exits_;
  double hard_;
  Rng rng_;
};

struct SampleNetwork {
  const Sample& sample;
  ExitReading evaluate(std::size_t exit) const {
    return {.confidence = sample.confidence[exit],
            .prediction = sample.answer[exit],
            .classes = 2,
            .probabilities = {}};
  }
  std::optional<float> offload(std::size_t) const { return sample.confidence.back(); }
};

PolicyOptions audited_options(std::size_t arms, std::uint64_t seed = kTestSeed) {
  PolicyOptions options = options_for(arms);
  options.costs = {.lambda1 = 0.8, .lambda2 = 0.2, .offload = 3.0};
  options.max_disagreement = 0.02;
  options.seed = seed;
  return options;
}

std::unique_ptr<Policy> make(const PolicyOptions& options) {
  auto policy = make_policy("audited", options);
  REQUIRE(policy.ok());
  return std::move(*policy);
}

// Whether the answer that was, or would have been, given differs from the last exit's.
bool differs(const Outcome& outcome, const Sample& sample) {
  const std::size_t arm = outcome.would_answer != kNoExit ? outcome.would_answer : outcome.exit_arm;
  return sample.answer[arm] != sample.answer.back();
}

TEST_CASE("the bound holds at all times in all but few runs, and is of use in the end") {
  int broken = 0;
  double last = 0.0;
  constexpr int kRuns = 200, kSamples = 40'000;
  for (int run = 0; run < kRuns; ++run) {
    Rng rng(mix_seed(static_cast<std::uint64_t>(run)));
    DisagreementBound bound;
    double differing = 0.0;
    bool below = false;
    for (int i = 0; i < kSamples; ++i) {
      // Audits grow rarer; every now and then a stretch is wrong more often.
      const double pi = i < 500 ? 1.0 : i < 5000 ? 0.05 : 0.01;
      const bool wrong = rng.uniform() < (i % 7000 < 500 ? 0.2 : 0.01);
      const bool audited = rng.uniform() < pi;
      differing += wrong ? 1.0 : 0.0;
      bound.add(pi, audited, wrong);
      if (i % 400 == 399) below = below || bound.upper(0.95) < differing;
    }
    broken += below ? 1 : 0;
    last += bound.upper(0.95) / differing / kRuns;
  }
  CHECK(broken <= 16);
  CHECK(last < 3.0);
  CHECK(last > 1.0);
}

TEST_CASE("what is known for certain is the bound where all is audited") {
  DisagreementBound bound;
  for (int i = 0; i < 1000; ++i) bound.add(1.0, true, i % 10 == 0);
  CHECK(bound.upper(0.95) == doctest::Approx(100.0));
  // Nothing is known of the next ones.
  for (int i = 0; i < 50; ++i) bound.add(1e-3, false, false);
  CHECK(bound.upper(0.95) == doctest::Approx(150.0));
}

TEST_CASE(
    "the estimate is near the truth, where one rare coin would move weights of 1 / pi by a lot") {
  constexpr int kRuns = 200, kSamples = 3000;
  for (const double factor : {0.6, 1.5}) {  // truth over the model, the same for all answers
    CAPTURE(factor);
    double mean = 0.0, error = 0.0, weighted_error = 0.0;
    for (std::uint64_t run = 0; run < kRuns; ++run) {
      Rng rng(mix_seed(run + 1));
      DisagreementEstimate estimate;
      double truth = 0.0, weighted = 0.0;
      for (int i = 0; i < kSamples; ++i) {
        const double expected = rng.uniform() < 0.1 ? 0.05 : 0.004;
        const double pi = expected > 0.01 ? 0.3 : 0.002;
        const bool differs = rng.uniform() < factor * expected;
        const bool audited = rng.uniform() < pi;
        truth += differs ? 1.0 : 0.0;
        weighted += audited && differs ? 1.0 / pi : 0.0;
        estimate.add(expected, audited, differs);
      }
      mean += estimate.all() / truth / kRuns;
      error += std::abs(estimate.all() - truth) / truth / kRuns;
      weighted_error += std::abs(weighted - truth) / truth / kRuns;
    }
    CHECK(mean > 0.8);
    CHECK(mean < 1.25);
    CHECK(error < 0.4);
    CHECK(error < 0.75 * weighted_error);
  }
}

TEST_CASE("the estimate counts what was audited, and misses what the model is sure of") {
  DisagreementEstimate all;
  for (int i = 0; i < 1000; ++i) all.add(0.02, true, i % 10 == 0);
  CHECK(all.all() == doctest::Approx(100.0));
  CHECK(all.not_audited() == 0.0);
  // Its bias, as the header tells it: 50 answers differ of which the model thinks none would.
  DisagreementEstimate sure;
  for (int i = 0; i < 5000; ++i) sure.add(1e-6, i % 500 == 0, false);
  CHECK(sure.all() < 0.01);
}

TEST_CASE("what a policy estimates is near what differs") {
  const PolicyOptions options = audited_options(12);
  double ratio = 0.0;
  constexpr int kRuns = 10, kSamples = 4000;
  for (std::uint64_t run = 0; run < kRuns; ++run) {
    const auto policy = make(audited_options(12, run));
    EpisodeRunner session(*policy, options);
    Stream stream(12, run + 40);
    double wrong = 0.0;
    for (int i = 0; i < kSamples; ++i) {
      const Sample sample = stream.next();
      wrong += differs(session.run(LinkState::kNone, SampleNetwork{sample}), sample) ? 1.0 : 0.0;
    }
    const auto report = *policy->disagreement();
    CHECK(report.delivered <= report.estimate);
    CHECK(report.estimate <= report.upper);
    CHECK(report.estimate * kSamples < 4.0 * wrong + 10.0);
    ratio += report.estimate * kSamples / wrong / kRuns;
  }
  CHECK(ratio > 0.5);
  CHECK(ratio < 2.0);
}

TEST_CASE("it saves cost and keeps to the limit") {
  const PolicyOptions options = audited_options(12);
  int over = 0;
  for (std::uint64_t run = 0; run < 12; ++run) {
    const auto policy = make(audited_options(12, run));
    EpisodeRunner session(*policy, options);
    Stream stream(12, run + 100);
    double cost = 0.0, wrong = 0.0;
    constexpr int kSamples = 6000;
    for (int i = 0; i < kSamples; ++i) {
      const Sample sample = stream.next();
      const Outcome& outcome = session.run(LinkState::kNone, SampleNetwork{sample});
      wrong += differs(outcome, sample) ? 1.0 : 0.0;
      if (i >= kSamples / 2) cost += outcome.cost;
    }
    over += wrong > options.max_disagreement * kSamples ? 1 : 0;
    CHECK(cost / (kSamples / 2) < 0.8 * options.costs.cost(12, 1, false));
  }
  CHECK(over <= 2);
}

TEST_CASE("an input that costs less to send than anything here is sent at once") {
  PolicyOptions options = audited_options(12);
  options.costs.offload = 0.5;
  const auto policy = make(options);
  EpisodeRunner session(*policy, options);
  Stream stream(12, kTestSeed);
  int sent = 0;
  for (int i = 0; i < 3000; ++i) {
    const Sample sample = stream.next();
    const Outcome& outcome = session.run(LinkState::kUp, SampleNetwork{sample});
    sent += i >= 2000 && outcome.plan.arm == kOffloadAtOnce ? 1 : 0;
  }
  CHECK(sent > 950);
  // A dearer link is another matter at once.
  options.costs.offload = 50.0;
  REQUIRE(policy->set_costs(options.costs).ok());
  CHECK(policy->plan(LinkState::kUp).arm != kOffloadAtOnce);
}

TEST_CASE("a change that the first look shows ends in many audits and no flood of wrong answers") {
  const PolicyOptions options = audited_options(6);
  const auto policy = make(options);
  EpisodeRunner session(*policy, options);
  Stream stream(6, kTestSeed);
  double wrong_after = 0.0;
  int audits = 0;
  constexpr int kChange = 8000;
  for (int i = 0; i < kChange + 600; ++i) {
    Sample sample = stream.next(i < kChange ? 0.0 : 0.3);
    if (i >= kChange) {
      for (float& confidence : sample.confidence) confidence = 0.5f + 0.5f * confidence;
    }
    const Outcome& outcome = session.run(LinkState::kNone, SampleNetwork{sample});
    if (i < kChange) continue;
    wrong_after += differs(outcome, sample) ? 1.0 : 0.0;
    audits += outcome.route == Route::kAudit ? 1 : 0;
  }
  CHECK(audits > 60);
  CHECK(wrong_after < 150.0);
}

TEST_CASE("streams that stay as they are set off hardly any alarm") {
  int alarms = 0;
  Rng rng(kTestSeed);
  std::array<float, ShiftTest::kBins - 1> edges{};
  for (std::size_t i = 0; i < edges.size(); ++i) {
    edges[i] = static_cast<float>(i + 1) / static_cast<float>(ShiftTest::kBins);
  }
  ShiftTest test;
  test.begin(edges);
  for (int i = 0; i < 1'000'000; ++i) {
    if (!test.add(static_cast<float>(rng.uniform()))) continue;
    ++alarms;
    test.begin(edges);
  }
  CHECK(alarms <= 20);
}

TEST_CASE("a shift of the first look's confidences is seen within 300 samples") {
  int seen = 0;
  for (std::uint64_t run = 0; run < 100; ++run) {
    Rng rng(run);
    std::array<float, ShiftTest::kBins - 1> edges{};
    for (std::size_t i = 0; i < edges.size(); ++i) {
      edges[i] = static_cast<float>(i + 1) / static_cast<float>(ShiftTest::kBins);
    }
    ShiftTest test;
    test.begin(edges);
    for (int i = 0; i < 4000; ++i) (void)test.add(static_cast<float>(rng.uniform()));
    // Kolmogorov and Smirnov's distance 0.2.
    for (int i = 0; i < 300; ++i) {
      const double u = rng.uniform();
      if (test.add(static_cast<float>(rng.uniform() < 0.2 ? 0.0 : u))) {
        ++seen;
        break;
      }
    }
  }
  CHECK(seen >= 95);
}

TEST_CASE("labels decide nothing") {
  Trace trace = network_like_trace(3000, 1.0);
  ReplayOptions options;
  options.policy = "audited";
  options.policy_options = audited_options(trace.exits);
  const auto decisions = [&] {
    std::vector<std::pair<std::size_t, Route>> all;
    options.on_decision = [&](const Decision& d) { all.emplace_back(d.arm, d.route); };
    REQUIRE(replay(trace, options).ok());
    return all;
  };
  const auto before = decisions();
  Rng rng(kTestSeed);
  shuffle(std::span(trace.label), rng);
  CHECK(decisions() == before);
}

TEST_CASE("a saved state counts audits on their way as wrong, and coins are fresh after it") {
  const PolicyOptions options = audited_options(4);
  const auto policy = make(options);
  EpisodeRunner session(*policy, options);
  Stream stream(4, kTestSeed);
  std::vector<Sample> samples(3);
  for (Sample& sample : samples) sample = stream.next();
  Episode episodes[3];
  for (int i = 0; i < 3; ++i) {
    session.start(episodes[i], LinkState::kNone,
                  SampleNetwork{samples[static_cast<std::size_t>(i)]});
    CHECK(episodes[i].outcome.route == Route::kAudit);
  }
  const std::string state = policy->save_state();
  for (Episode& episode : episodes) session.learn(episode);
  CHECK(policy->disagreement()->upper == 0.0);
  REQUIRE(policy->load_state(state).ok());
  CHECK(policy->disagreement()->upper == 1.0);

  const auto coins = [&](std::uint64_t entropy) {
    const auto other = make(options);
    EpisodeRunner run(*other, options);
    Stream more(4, kTestSeed + 1);
    for (int i = 0; i < 3000; ++i) {
      const Sample sample = more.next();
      run.run(LinkState::kNone, SampleNetwork{sample});
    }
    other->restarted(entropy);
    std::vector<int> audited;
    for (int i = 0; i < 3000; ++i) {
      const Sample sample = more.next();
      if (run.run(LinkState::kNone, SampleNetwork{sample}).route == Route::kAudit)
        audited.push_back(i);
    }
    return audited;
  };
  CHECK(coins(1) != coins(2));
  CHECK(coins(3) == coins(3));
}

TEST_CASE("no damaged state is taken, whatever the number of exits") {
  for (const std::size_t arms : {3u, 5u, 13u}) {
    const PolicyOptions options = audited_options(arms);
    const auto policy = make(options);
    EpisodeRunner session(*policy, options);
    Stream stream(arms, kTestSeed);
    for (int i = 0; i < 1500; ++i) {
      const Sample sample = stream.next();
      session.run(i % 3 == 0 ? LinkState::kNone : LinkState::kUp, SampleNetwork{sample});
    }
    const std::string state = policy->save_state();
    CHECK(state.size() < 100'000);
    const std::string header = state_header("audited", [&] {
      PolicyOptions plain = options;
      plain.costs = CostModel();
      return plain;
    }());
    const std::string body(
        std::string_view(state).substr(header.size(), state.size() - header.size() - 8));
    Rng rng(kTestSeed + arms);
    for (int trial = 0; trial < 400; ++trial) {
      std::string damaged = body;
      for (int i = 0; i < 4; ++i) {
        damaged[rng.below(static_cast<std::uint32_t>(damaged.size()))] =
            static_cast<char>(rng.below(256));
      }
      const auto other = make(options);
      // Taken or not: what it does then is sound.
      (void)other->load_state(seal_state(header, damaged));
      EpisodeRunner more(*other, options);
      for (int i = 0; i < 40; ++i) {
        const Sample sample = stream.next();
        more.run(i % 2 == 0 ? LinkState::kNone : LinkState::kUp, SampleNetwork{sample});
      }
    }
  }
}

TEST_CASE("a budget is kept within 2 %, whatever unit it is in") {
  for (const double unit : {1.0, 0.25}) {
    CAPTURE(unit);
    PolicyOptions options = audited_options(12);
    options.objective = Objective::kBudget;
    options.costs.budget_unit = unit;
    options.budget = 5.0 * unit;
    const auto policy = make(options);
    EpisodeRunner session(*policy, options);
    Stream stream(12, kTestSeed);
    double cost = 0.0;
    constexpr int kSamples = 20'000;
    for (int i = 0; i < kSamples; ++i) {
      const Sample sample = stream.next();
      cost += session.run(LinkState::kNone, SampleNetwork{sample}).cost;
    }
    CHECK(cost / kSamples == doctest::Approx(5.0).epsilon(0.02));
  }
}

// Held-out rows of such a stream, as a model file has them.
std::vector<float> held_out(std::size_t rows, std::size_t exits, double wrong, double hard = 0.0) {
  Stream stream(exits, kTestSeed + 9, hard);
  std::vector<float> values;
  for (std::size_t row = 0; row < rows; ++row) {
    const Sample sample = stream.next(wrong);
    for (std::size_t exit = 0; exit < exits; ++exit) {
      const bool differs = sample.answer[exit] != sample.answer.back();
      values.push_back(differs ? -sample.confidence[exit] : sample.confidence[exit]);
    }
  }
  return values;
}

// Samples audited of 3,000.
std::uint64_t audits_of(PolicyOptions options, double wrong) {
  const auto policy = make(options);
  EpisodeRunner session(*policy, options);
  Stream stream(12, kTestSeed);
  std::uint64_t audits = 0;
  for (int i = 0; i < 3000; ++i) {
    const Sample sample = stream.next(wrong);
    const Outcome& outcome = session.run(LinkState::kNone, SampleNetwork{sample});
    audits += outcome.route == Route::kAudit ? 1 : 0;
  }
  return audits;
}

TEST_CASE("held-out rows of the model file spare audits, unless the stream is unlike them") {
  PolicyOptions options = audited_options(12);
  const std::uint64_t without = audits_of(options, 0.0);
  options.prior_rows = held_out(2000, 12, 0.0);
  const std::uint64_t with = audits_of(options, 0.0);
  CHECK(with < 350);
  CHECK(without > 2 * with);
  // Its exits are wrong more often than they were on those rows.
  CHECK(audits_of(options, 0.2) > 2 * with);
  // What the stream shows is what counts: the limit holds all the same.
  options.prior_rows = held_out(2000, 12, 0.0);
  const auto policy = make(options);
  EpisodeRunner session(*policy, options);
  Stream stream(12, kTestSeed);
  double wrong = 0.0;
  for (int i = 0; i < 6000; ++i) {
    const Sample sample = stream.next(0.2);
    wrong += differs(session.run(LinkState::kNone, SampleNetwork{sample}), sample) ? 1.0 : 0.0;
  }
  CHECK(wrong <= options.max_disagreement * 6000);
}

TEST_CASE("a state goes on after the model file's held-out rows were written anew") {
  PolicyOptions options = audited_options(12);
  options.prior_rows = held_out(2000, 12, 0.0);
  const auto saved = make(options);
  EpisodeRunner session(*saved, options);
  Stream stream(12, kTestSeed);
  for (int i = 0; i < 500; ++i) session.run(LinkState::kNone, SampleNetwork{stream.next()});
  const std::string state = saved->save_state();
  // Fewer rows, others, none, more than before: those of the state are not weights of these.
  for (const auto& rows : {held_out(800, 12, 0.0), held_out(2000, 12, 0.0, 0.4),
                           std::vector<float>(), held_out(1999, 12, 0.0)}) {
    CAPTURE(rows.size());
    options.prior_rows = rows;
    const auto policy = make(options);
    CHECK(policy->load_state(state).ok());
    CHECK(policy->disagreement()->audited == saved->disagreement()->audited);
    EpisodeRunner later(*policy, options);
    for (int i = 0; i < 300; ++i) later.run(LinkState::kNone, SampleNetwork{stream.next()});
    const auto again = make(options);
    CHECK(again->load_state(policy->save_state()).ok());
  }
}

// Held-out rows of two kinds in turn, as many of either.
std::vector<float> two_kinds(std::size_t rows, std::size_t exits) {
  const std::vector<float> one = held_out(rows / 2, exits, 0.0);
  const std::vector<float> other = held_out(rows / 2, exits, 0.0, 0.4);
  std::vector<float> values;
  for (std::size_t row = 0; row < rows; ++row) {
    const auto at = static_cast<std::ptrdiff_t>(row / 2 * exits);
    const auto from = (row % 2 == 0 ? one : other).begin() + at;
    values.insert(values.end(), from, from + static_cast<std::ptrdiff_t>(exits));
  }
  return values;
}

TEST_CASE("held-out rows of two kinds are weighed by their likeness to a stream of one of them") {
  constexpr std::size_t kExits = 12, kHeldOut = 800, kChecks = 400, kSeen = 150;
  const std::vector<float> both = two_kinds(kHeldOut + kChecks, kExits);
  for (const double hard : {0.0, 0.4}) {
    CAPTURE(hard);
    AuditRows rows(kExits), checks(kExits);
    for (std::size_t row = 0; row < kHeldOut + kChecks; ++row) {
      (row < kHeldOut ? rows : checks)
          .add_held_out(std::span(both).subspan(row * kExits, kExits), 1.0f);
    }
    PriorWeights weights(kExits);
    CHECK(weights.fit(rows, checks) == 0.0);  // nothing was seen of the stream
    Stream stream(kExits, kTestSeed + 77, hard);
    for (std::size_t i = 0; i < kSeen; ++i) {
      const Sample sample = stream.next();
      std::vector<float> seen = sample.confidence;
      for (std::size_t exit = 0; exit < kExits; ++exit) {
        if (sample.answer[exit] != sample.answer.back()) seen[exit] = -seen[exit];
      }
      rows.add(seen, 0, 1.0f);
    }
    CHECK(weights.fit(rows, checks) > 11.0);
    weights.weigh(rows, checks);
    std::array<double, 2> of_kind{}, of_checks{};
    for (std::size_t row = 0; row < kChecks; ++row) {
      of_checks[row % 2] += static_cast<double>(checks.weight()[row]);
    }
    double mean = 0.0, plain = 0.0, stream_mean = 0.0;
    for (std::size_t row = 0; row < kHeldOut; ++row) {
      const auto weight = static_cast<double>(rows.weight()[row]);
      of_kind[row % 2] += weight;
      mean += weight * static_cast<double>(rows.confidence(0)[row]);
      plain += static_cast<double>(rows.confidence(0)[row]) / kHeldOut;
    }
    for (std::size_t row = kHeldOut; row < rows.size(); ++row) {
      CHECK(rows.weight()[row] == 1.0f);
      stream_mean += static_cast<double>(rows.confidence(0)[row]) / kSeen;
    }
    const double all = of_kind[0] + of_kind[1];
    CHECK(all < 0.35 * kHeldOut);
    CHECK(of_kind[hard > 0.0 ? 1 : 0] > 0.53 * all);
    CHECK(of_checks[hard > 0.0 ? 1 : 0] > 0.53 * (of_checks[0] + of_checks[1]));
    CHECK(std::abs(mean / all - stream_mean) < 0.4 * std::abs(plain - stream_mean));
  }
}

TEST_CASE("a stream like the held-out rows leaves their weights alone, mostly") {
  constexpr std::size_t kExits = 12;
  const std::vector<float> held = held_out(800, kExits, 0.0);
  int unlike = 0;
  for (std::uint64_t run = 0; run < 40; ++run) {
    AuditRows rows(kExits);
    for (std::size_t row = 0; row < 800; ++row) {
      rows.add_held_out(std::span(held).subspan(row * kExits, kExits), 1.0f);
    }
    Stream stream(kExits, run + 500);
    for (int i = 0; i < 100; ++i) {
      const Sample sample = stream.next();
      std::vector<float> seen = sample.confidence;
      for (std::size_t exit = 0; exit < kExits; ++exit) {
        if (sample.answer[exit] != sample.answer.back()) seen[exit] = -seen[exit];
      }
      rows.add(seen, 0, 1.0f);
    }
    PriorWeights weights(kExits);
    unlike += weights.fit(rows, AuditRows(kExits)) > 11.0 ? 1 : 0;
  }
  CHECK(unlike <= 8);
}

TEST_CASE("held-out rows of two kinds spare audits of a stream of either, and E is kept") {
  PolicyOptions options = audited_options(12);
  options.prior_rows = two_kinds(2000, 12);
  for (const double hard : {0.0, 0.4}) {
    CAPTURE(hard);
    int over = 0;
    std::uint64_t audits = 0;
    constexpr std::uint64_t kRuns = 10;
    constexpr int kSamples = 4000;
    for (std::uint64_t run = 0; run < kRuns; ++run) {
      options.seed = run;
      const auto policy = make(options);
      EpisodeRunner session(*policy, options);
      Stream stream(12, run + 300, hard);
      double wrong = 0.0;
      bool below = false;
      for (int i = 1; i <= kSamples; ++i) {
        const Sample sample = stream.next();
        const Outcome& outcome = session.run(LinkState::kNone, SampleNetwork{sample});
        wrong += differs(outcome, sample) ? 1.0 : 0.0;
        below = below || (i % 100 == 0 && policy->disagreement()->upper * i < wrong - 1e-6);
      }
      audits += policy->disagreement()->audited / kRuns;
      over += wrong > options.max_disagreement * kSamples ? 1 : 0;
      CHECK(!below);
    }
    CHECK(audits < 300);
    CHECK(over <= 1);
  }
}

TEST_CASE("with a server, learning costs no more than twice what it can win") {
  PolicyOptions options = audited_options(12);
  for (const double sent : {1.5, 2.0, 3.0, 5.0}) {
    CAPTURE(sent);
    options.costs.offload = sent * options.costs.lambda();
    const auto policy = make(options);
    EpisodeRunner session(*policy, options);
    Stream stream(12, kTestSeed);
    double cost = 0.0;
    constexpr int kSamples = 500;  // that are all learned from where there is no server
    for (int i = 0; i < kSamples; ++i) {
      cost += session.run(LinkState::kUp, SampleNetwork{stream.next()}).cost;
    }
    const double spent = cost / kSamples / options.costs.lambda() - sent;
    CHECK(spent <= 2.0 * (sent - 1.0) + 0.3);
    CHECK(policy->disagreement()->audited > 20);
  }
}

TEST_CASE("rows that are a mixture of kinds are trusted less than those of one") {
  PolicyOptions options = audited_options(12);
  options.prior_rows = held_out(2000, 12, 0.0);
  double cost[2];
  for (const std::size_t kinds : {1u, 3u}) {
    options.prior_kinds = kinds;
    const auto policy = make(options);
    EpisodeRunner session(*policy, options);
    Stream stream(12, kTestSeed);
    double& sum = cost[kinds == 1 ? 0 : 1] = 0.0;
    for (int i = 0; i < 3000; ++i) {
      sum += session.run(LinkState::kNone, SampleNetwork{stream.next()}).cost;
    }
  }
  CHECK(cost[1] > cost[0]);
}

TEST_CASE("a state is read back at every stage of learning, and goes on as if never stopped") {
  const std::vector<float> priors[] = {{}, held_out(2000, 12, 0.0), two_kinds(2000, 12)};
  for (const std::vector<float>& prior : priors) {
    for (const double wrong : {0.0, 0.2}) {  // as the held-out rows, and unlike them
      CAPTURE(&prior - priors);
      CAPTURE(wrong);
      PolicyOptions options = audited_options(12);
      options.prior_rows = prior;
      const auto whole = make(options);
      EpisodeRunner runner(*whole, options);
      Stream stream(12, kTestSeed);
      bool rare = false;  // coins below one half
      for (int stage = 0; stage < 30; ++stage) {
        CAPTURE(stage);
        const std::string state = whole->save_state();
        const auto again = make(options);
        REQUIRE(again->load_state(state).ok());
        REQUIRE(again->save_state() == state);
        EpisodeRunner other(*again, options);
        std::size_t audits = 0;
        for (int i = 0; i < 200; ++i) {
          const Sample sample = stream.next(wrong);
          const LinkState link = i % 3 == 0 ? LinkState::kUp : LinkState::kNone;
          const Outcome one = runner.run(link, SampleNetwork{sample});
          const Outcome two = other.run(link, SampleNetwork{sample});
          REQUIRE(one.route == two.route);
          REQUIRE(one.exit_arm == two.exit_arm);
          audits += one.route == Route::kAudit ? 1 : 0;
        }
        rare = rare || audits < 60;
      }
      CHECK(rare);
    }
  }
}

TEST_CASE("a state is read back whatever is asked for, and where no exit is good enough") {
  for (const Objective objective :
       {Objective::kDisagreement, Objective::kBudget, Objective::kReward}) {
    for (const double wrong : {0.0, 0.5}) {
      for (const double size : {1e-4, 0.3, 5.0}) {  // of the limit, or of the budget
        CAPTURE(static_cast<int>(objective));
        CAPTURE(wrong);
        CAPTURE(size);
        PolicyOptions options = audited_options(12);
        options.objective = objective;
        options.max_disagreement = std::min(size, 0.4);
        if (objective == Objective::kBudget) options.budget = size;
        const auto policy = make(options);
        EpisodeRunner runner(*policy, options);
        Stream stream(12, kTestSeed);
        for (int stage = 0; stage < 10; ++stage) {
          CAPTURE(stage);
          for (int i = 0; i < 200; ++i) {
            const Sample sample = stream.next(wrong);
            const LinkState link = i % 2 == 0 ? LinkState::kUp : LinkState::kNone;
            runner.run(link, SampleNetwork{sample});
          }
          const std::string state = policy->save_state();
          const auto again = make(options);
          REQUIRE(again->load_state(state).ok());
          CHECK(again->save_state() == state);
        }
      }
    }
  }
}

TEST_CASE("for the reward few rows do not talk the learner out of sending everything") {
  double earned = 0.0, sent = 0.0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    PolicyOptions options = audited_options(12, seed);
    options.objective = Objective::kReward;
    options.costs = {.lambda1 = 0.08, .lambda2 = 0.02, .offload = 0.2};
    const auto policy = make(options);
    EpisodeRunner runner(*policy, options);
    Stream stream(12, kTestSeed + seed, 0.5);
    for (int i = 0; i < 3000; ++i) {
      const Sample sample = stream.next();
      const Outcome outcome = runner.run(LinkState::kUp, SampleNetwork{sample});
      earned += options.costs.reward(static_cast<double>(outcome.answer_confidence), outcome.cost);
      sent += options.costs.reward(static_cast<double>(sample.confidence.back()),
                                   options.costs.offload);
    }
  }
  MESSAGE("reward, of sending everything: " << earned / sent);
  CHECK(earned > 0.98 * sent);
}

TEST_CASE("feedback that answers have become wrong begins the learning anew; the same is no news") {
  for (const double wrong : {0.05, 0.5}) {
    CAPTURE(wrong);
    const PolicyOptions options = audited_options(12);
    const auto policy = make(options);
    EpisodeRunner session(*policy, options);
    Stream stream(12, kTestSeed);
    Rng rng(kTestSeed);
    std::uint64_t late_audits = 0;
    for (int i = 0; i < 6000; ++i) {
      const Sample sample = stream.next();
      Episode episode;
      session.start(episode, LinkState::kNone, SampleNetwork{sample});
      const bool is_wrong = rng.uniform() < (i < 5000 ? 0.05 : wrong);
      episode.outcome.feedback = episode.outcome.answer_class ^ (is_wrong ? 1 : 0);
      session.learn(episode);
      late_audits += i >= 5000 && episode.outcome.route == Route::kAudit ? 1 : 0;
    }
    CHECK((late_audits > 150) == (wrong > 0.05));
  }
}

}  // namespace
}  // namespace splitee::policy
