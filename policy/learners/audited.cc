#include "policy/learners/audited.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "policy/learners/disagreement_bound.h"
#include "policy/learners/disagreement_estimate.h"
#include "policy/learners/policy_base.h"
#include "policy/learners/prior_weights.h"
#include "policy/learners/rule_maker.h"
#include "policy/learners/shift_test.h"

namespace splitee::policy {
namespace {

constexpr std::uint64_t kPlanEvery = 250, kPlanBudget = 60, kPlanFirst = 20, kPlanFirstAt = 60;
constexpr std::size_t kFewestRows = 30, kFewestForReward = 10;
constexpr std::uint64_t kYoung = 1000;  // samples
constexpr float kOldRows = 0.1f;        // weight, after a change
constexpr float kPriorWeight = 1.0f, kUnlikeRows = 0.02f;
constexpr std::size_t kMostPriorRows = 1000;  // that rules are proposed on, and of the others
constexpr double kPromisedFrom = 1000.0;      // samples from which E is kept since the start
constexpr double kBentExcess = 1.5;   // of disagreement over what rows weighed by likeness tell
constexpr double kMixedExcess = 1.3;  // over what a mixture of kinds tells of a stream of one
constexpr double kWorth = 2.0, kLeastWorth = 0.01;
constexpr double kUnlike = 11.0;  // chi-squared's 95 % quantile for PriorWeights::kMoments
constexpr std::uint64_t kPriorStands = 2000;  // samples that the stream is held against it for
constexpr float kLeastWeight = 0.2f;
constexpr double kForget = 0.9995;      // per sample, of the mean probability where in doubt
constexpr double kCostSamples = 200.0;  // that what was over or left of a budget is made up in
constexpr double kMoved = 0.1;          // change of a cost that asks for a new rule at once

// The first `whole` samples are audited; at sample t, audits may cost (slow / t)^3 of what auditing
// everything costs.
struct Schedule {
  double whole, slow;
};
constexpr Schedule kSchedules[] = {{200, 500}, {20, 40}, {60, 160}, {10, 10}, {20, 50}};
enum : std::size_t { kFromNothing, kFromPrior, kAfterChange, kForReward, kFromLikeRows };

// Of one sample on its way.
struct Slot {
  float probability = 0;  // of its audit
  bool audited = false;
};

class Audited final : public PolicyBase {
 public:
  explicit Audited(const PolicyOptions& options)
      : PolicyBase("audited", options),
        rng_(options.seed),
        rows_(options.arms()),
        checks_(options.arms()),
        maker_(options),
        seen_(options.arms()),
        planned_costs_(options.costs),
        prior_test_(options.arms()),
        prior_weights_(options.arms()) {
    rules_.fill(maker_.deepest());
    schedule_ = options.objective == Objective::kReward ? kForReward : kFromNothing;
    add_prior();
  }

  std::optional<DisagreementReport> disagreement() const override {
    DisagreementReport report;
    report.limit = options_.max_disagreement;
    report.samples = samples_;
    report.audited = audits_;
    if (samples_ == 0) return report;
    const auto count = static_cast<double>(samples_);
    report.estimate = std::min(1.0, estimate_.all() / count);
    report.delivered = std::min(1.0, estimate_.not_audited() / count);
    report.upper = bound_.upper(options_.level) / count;
    report.certified = report.upper <= report.limit;
    return report;
  }

 private:
  bool keeps_rewards() const override { return false; }
  bool learns_without_link() const override { return true; }

  Plan choose(LinkState link) override {
    if (changed_) start_anew();
    ++samples_;
    const bool up = link == LinkState::kUp;
    Rule& rule = rules_[up ? 1 : 0];
    const bool must_send = up && sending_is_cheapest();
    // While nothing can be better than sending, learning would cost much and tell little.
    if (!must_send) ++learning_;
    if (samples_ >= rule.next_plan) plan_rule(rule, up, must_send);
    now_ = &rule;
    luck_ = rng_.uniform();
    slot_ = {static_cast<float>(rule.whole), luck_ < rule.whole};
    on_path_ = rule.chain.at_once ? kNoExit : rule.chain.first;
    if (slot_.audited) return {.arm = options_.last_arm(), .every_exit = true, .first = 0};
    if (rule.chain.at_once) return {.arm = kOffloadAtOnce};
    return {.arm = options_.last_arm(), .may_end_early = true, .first = rule.chain.first};
  }

  // Share of samples that may be audited while learning: one costs what lies between
  // running all and sending the input, and learning may cost kWorth times what answering early can
  // save meanwhile. 1 where nothing is cheaper than running everything.
  double worth_of_audits(bool link) const {
    if (!link || options_.objective != Objective::kDisagreement || schedule_ == kAfterChange) {
      return 1.0;
    }
    const double sent = costs().offload_from(0);
    const double whole = costs().cost(options_.layer_of.back(), options_.arms(), false);
    const double saved = sent - costs().cost(options_.layer_of.front(), 1, false);
    return kWorth * saved >= whole - sent ? 1.0
                                          : std::max(kWorth * saved / (whole - sent), kLeastWorth);
  }

  Action decide(const Plan& plan, std::size_t arm, const ExitReading& reading) override {
    if (plan.arm == kOffloadAtOnce) return Action::kExit;
    const Rule& rule = *now_;
    if (arm == rule.chain.first && !rule.chain.at_once) draw_for_doubt(rule, reading.confidence);
    const Action action = follow(rule, arm, reading.confidence);
    slots_[plan.ticket % Tickets::kWindow] = slot_;
    if (!slot_.audited) return action;
    const bool last = arm == options_.last_arm();
    Action audit = last ? Action(Action::kExit) : Action::run_on_to(arm + 1);
    audit.audit = true;
    audit.would_answer = action == Action::kExit && !last;
    return audit;
  }

  // The coin was drawn when the sample was planned; what it is held against may be larger now.
  void draw_for_doubt(const Rule& rule, float confidence) {
    if (rule.chain.first == options_.last_arm() || rule.whole >= 1.0) return;
    const auto bin =
        std::upper_bound(rule.edges.begin(), rule.edges.end(), confidence) - rule.edges.begin();
    slot_.probability =
        std::max(slot_.probability, rule.probability[static_cast<std::size_t>(bin)]);
    slot_.audited = luck_ < static_cast<double>(slot_.probability);
    if (!shift_.add(confidence)) return;
    // Against held-out rows this says no more than that the stream is unlike them.
    if (schedule_ == kFromPrior && learning_ - began_ < kPriorStands) {
      prior_weights_.fit(rows_, checks_);
      return weigh_prior();
    }
    changed_ = true;
  }

  // What the rule says at an exit; kContinue at those that it does not look at.
  Action follow(const Rule& rule, std::size_t arm, float confidence) {
    const std::size_t last = options_.last_arm();
    if (arm == last) return Action::kExit;
    if (arm != on_path_) return Action::kContinue;
    on_path_ = kNoExit;
    const Look& look = rule.chain.looks[arm];
    if (confidence >= look.threshold) return Action::kExit;  // not for NaN
    if (look.next == kSendNext) return Action::kOffload;
    on_path_ = look.next;
    return Action::run_on_to(look.next);
  }

  void learn(const Outcome& outcome) override {
    Slot& slot = slots_[outcome.plan.ticket % Tickets::kWindow];
    const Slot own = slot;
    slot = {};
    paid_ += outcome.cost / costs().lambda() * costs().budget_unit;
    if (outcome.feedback != kNoClass && outcome.answer_class != kNoClass) {
      changed_ = feedback_test_.add(outcome.feedback != outcome.answer_class) || changed_;
    }
    if (outcome.route == Route::kAudit) {
      learn_audit(outcome, static_cast<double>(own.probability));
    } else if (outcome.route == Route::kExit) {
      count_answer(outcome, outcome.exit_arm, static_cast<double>(own.probability), false, false);
    }
  }

  // An answer that was, or would have been, given before the last exit.
  void count_answer(const Outcome& outcome, std::size_t arm, double probability, bool audited,
                    bool differs) {
    if (!(probability > 0.0)) return;
    bound_.add(probability, audited, differs);
    const double expected = maker_.disagreement(arm, outcome.confidence[arm]);
    estimate_.add(expected, audited, differs);
    doubt_ = doubt_ * kForget + expected;
    doubt_over_probability_ = doubt_over_probability_ * kForget + expected / probability;
    if (audited && probability < 1.0) changed_ = audit_test_.add(differs, expected) || changed_;
  }

  void learn_audit(const Outcome& outcome, double probability) {
    ++audits_;
    const std::size_t last = options_.last_arm();
    if (outcome.classes.size() != options_.arms() || !(probability > 0.0)) return;
    const auto differs = [&](std::size_t arm) {
      return outcome.classes[arm] != outcome.classes[last];
    };
    const std::size_t arm = outcome.would_answer;
    if (arm < last) count_answer(outcome, arm, probability, true, differs(arm));
    std::size_t from = last;
    while (from > 0 && !std::isnan(outcome.confidence[from - 1])) --from;
    for (std::size_t exit = from; exit <= last; ++exit) {
      seen_[exit] = differs(exit) ? -outcome.confidence[exit] : outcome.confidence[exit];
    }
    rows_.add(seen_, from, row_weight(probability));
    if (from == 0 && rests_on_prior() && prior_test_.add(seen_)) look_at_prior();
  }

  // Held-out rows count as they are while the stream looks like them, else by their likeness to it,
  // and hardly where it does not look like those either.
  void look_at_prior() {
    const double unlike = prior_weights_.fit(rows_, checks_);
    if (schedule_ == kFromLikeRows) prior_weights_.weigh(rows_, checks_);
    if (schedule_ == kFromPrior && (unlike > kUnlike || prior_test_.unlike(rows_))) weigh_prior();
    if (schedule_ == kFromLikeRows && prior_test_.unlike(rows_)) leave_prior();
  }

  void weigh_prior() {
    prior_weights_.weigh(rows_, checks_);
    schedule_ = kFromLikeRows;
    shift_ready_ = false;
    for (Rule& rule : rules_) rule.next_plan = samples_ + 1;
  }

  // The stream is another one than the model file's held-out samples: learning begins without them.
  void leave_prior() {
    rows_.scale_held_out(kUnlikeRows);
    checks_.scale_held_out(kUnlikeRows);
    schedule_ = kFromNothing;
    shift_ready_ = false;
    for (Rule& rule : rules_) {
      maker_.make_deepest(rule);
      rule.next_plan = samples_ + kPlanFirst;
    }
  }

  bool rests_on_prior() const { return schedule_ == kFromPrior || schedule_ == kFromLikeRows; }

  float row_weight(double probability) const {
    if (probability >= 1.0 || !(doubt_over_probability_ > 0.0)) return 1.0f;
    const double mean = doubt_ / doubt_over_probability_;
    return std::clamp(static_cast<float>(mean / probability), kLeastWeight,
                      AuditRows::kLargestWeight);
  }

  // Than the first exit alone.
  bool sending_is_cheapest() const {
    return options_.objective == Objective::kDisagreement &&
           costs().offload_from(0) <= costs().cost(options_.layer_of.front(), 1, false);
  }

  void plan_rule(Rule& rule, bool link, bool must_send) {
    const std::uint64_t since = learning_ - began_;
    const bool budget = options_.objective == Objective::kBudget;
    rule.next_plan =
        samples_ + std::clamp(since / 5, kPlanFirst, budget ? kPlanBudget : kPlanEvery);
    planned_costs_ = costs();
    if (must_send) return maker_.make_at_once(rule);
    const double worth = worth_of_audits(link);
    if (rows_.size() < fewest_rows() || since + 1 < warm_up()) return make_first(worth, rule);
    const std::size_t looked = rule.chain.first;
    maker_.make(rows_, checks_, costs(), link,
                {since < kYoung, excess(), std::max(kPromisedFrom, static_cast<double>(samples_)),
                 budget_now(), link ? costs().offload_from(0) / costs().lambda() : kNoSending},
                rule);
    maker_.plan_audits(rows_, worth * audits_wanted(static_cast<double>(since)), rule);
    if (looked == rule.chain.first && shift_ready_) return;
    begin_shift_test(rule.chain.first, since);
  }

  // Against what the model file says of held-out samples while the rule rests on that; else against
  // the stream itself.
  void begin_shift_test(std::size_t exit, std::uint64_t since) {
    shift_ready_ = true;
    if (schedule_ == kFromPrior && since < kPriorStands && prior_test_.begun()) {
      return shift_.begin(prior_test_.edges(exit), prior_test_.known());
    }
    shift_.begin(ShiftTest::edges_of(rows_, exit));
  }

  // Until a rule is known: everything is run and looked at, or sent.
  void make_first(double worth, Rule& rule) const {
    if (worth >= 1.0) return maker_.make_deepest(rule);
    maker_.make_at_once(rule);
    rule.whole = worth;
    rule.probability.fill(static_cast<float>(worth));
  }

  // By how much more than the rows tell answers are expected to differ.
  double excess() const {
    if (schedule_ == kFromLikeRows) return kBentExcess;
    return schedule_ == kFromPrior && options_.prior_kinds > 1 ? kMixedExcess : 1.0;
  }

  // A disagreement is rare; a confidence is told by every row.
  std::size_t fewest_rows() const {
    return options_.objective == Objective::kReward ? kFewestForReward : kFewestRows;
  }

  // Samples before the first rule.
  std::uint64_t warm_up() const {
    return std::min<std::uint64_t>(kPlanFirstAt,
                                   static_cast<std::uint64_t>(kSchedules[schedule_].whole));
  }

  double audits_wanted(double since) const {
    const Schedule& schedule = kSchedules[schedule_];
    if (since < schedule.whole) return 1.0;
    const double ratio = std::min(1.0, schedule.slow / since);
    return ratio * ratio * ratio;
  }

  // In lambda. What was saved or overspent so far is made up for over kCostSamples.
  double budget_now() const {
    if (!(options_.budget > 0.0)) return 0.0;
    const double budget = options_.budget;
    const double left = budget * static_cast<double>(samples_) - paid_;
    return budget * std::clamp(1.0 + left / (budget * kCostSamples), 0.3, 3.0) /
           costs().budget_unit;
  }

  // After an alarm: everything is run and looked at until a new rule is known.
  void start_anew() {
    changed_ = shift_ready_ = false;
    audit_test_.begin();
    feedback_test_.begin();
    rows_.scale_weights(kOldRows);
    checks_.scale_weights(kOldRows);
    began_ = learning_;
    schedule_ = kAfterChange;
    for (Rule& rule : rules_) {
      maker_.make_deepest(rule);
      rule.next_plan = samples_ + kPlanFirstAt;
    }
  }

  void add_prior() {
    const std::size_t arms = options_.arms();
    const std::size_t count = options_.prior_rows.size() / arms;
    const std::size_t kept = std::min(count, kMostPriorRows);
    for (std::size_t row = 0; row < count; ++row) {
      const auto seen = std::span(options_.prior_rows).subspan(row * arms, arms);
      if (rows_.size() < kept && row == rows_.size() * count / kept) {
        rows_.add_held_out(seen, kPriorWeight);
      } else if (checks_.size() < kMostPriorRows) {
        checks_.add_held_out(seen, kPriorWeight);
      }
    }
    if (kept < kFewestRows || schedule_ != kFromNothing) return;
    schedule_ = kFromPrior;
    prior_test_.begin(rows_);
  }

  void costs_changed() override {
    const auto moved = [](double now, double before) {
      return std::abs(now - before) > kMoved * std::max(now, before);
    };
    const CostModel& now = costs();
    const CostModel& before = planned_costs_;
    bool far = moved(now.lambda1, before.lambda1) || moved(now.lambda2, before.lambda2) ||
               moved(now.offload_from(0), before.offload_from(0));
    for (const std::size_t layer : options_.layer_of) {
      far = far || moved(now.offload_from(layer), before.offload_from(layer));
    }
    if (!far) return;
    for (Rule& rule : rules_) rule.next_plan = 0;
  }

  // Audits whose outcome a saved state does not know count as wrong in it.
  void archive_open(StateArchive& archive) {
    std::size_t open = 0;
    for (const Slot& slot : slots_) open += slot.audited ? 1 : 0;
    archive.index(open, Tickets::kWindow + 1);
    if (!archive.reading()) {
      for (Slot& slot : slots_) {
        if (slot.audited) archive.packed({&slot.probability, 1}, 1.0f);
      }
      return;
    }
    slots_.fill({});
    for (std::size_t i = 0; i < open && !archive.failed(); ++i) {
      float probability = 0;
      archive.packed({&probability, 1}, 1.0f);
      if (archive.failed() || !(probability > 0.0f)) return archive.refuse();
      bound_.add(static_cast<double>(probability), true, true);
    }
  }

  void archive(StateArchive& archive) override {
    archive.rng(rng_);
    bound_.archive(archive);
    estimate_.archive(archive);
    archive_open(archive);
    rows_.archive(archive);
    checks_.archive_weights(archive);
    for (Rule& rule : rules_) rule.archive(archive, options_.arms());
    maker_.archive(archive);
    shift_.archive(archive);
    audit_test_.archive(archive);
    feedback_test_.archive(archive);
    prior_test_.archive(archive);
    archive.word(samples_);
    archive.word(audits_);
    archive.word(learning_);
    archive.word(began_);
    archive.index(schedule_, std::size(kSchedules));
    archive.flag(shift_ready_);
    archive.flag(changed_);
    archive.non_negative(doubt_);
    archive.non_negative(doubt_over_probability_);
    archive.non_negative(paid_);
    if (archive.reading() && (began_ > learning_ || learning_ > samples_ || audits_ > samples_)) {
      archive.refuse();
    }
  }

  void restarted(std::uint64_t entropy) override {
    if (entropy != 0) rng_ = Rng(mix_seed(rng_.state() ^ entropy));
  }

  Rng rng_;
  AuditRows rows_;
  AuditRows checks_;  // held-out ones that no rule is proposed on
  RuleMaker maker_;
  DisagreementBound bound_;
  DisagreementEstimate estimate_;
  ShiftTest shift_;
  AuditTest audit_test_;
  FeedbackTest feedback_test_;
  std::array<Rule, 2> rules_;  // without a link, with one
  std::array<Slot, Tickets::kWindow> slots_{};
  std::vector<float> seen_;
  CostModel planned_costs_;
  PriorTest prior_test_;
  PriorWeights prior_weights_;

  std::uint64_t samples_ = 0, audits_ = 0;
  std::uint64_t learning_ = 0;  // samples that had something to learn for
  std::uint64_t began_ = 0;     // of these, before learning began
  std::size_t schedule_ = kFromNothing;
  bool shift_ready_ = false, changed_ = false;
  double doubt_ = 0, doubt_over_probability_ = 0;  // sums of p and p / pi, fading
  double paid_ = 0;                                // in the unit of the budget

  // Of the sample at hand.
  Rule* now_ = &rules_[0];
  double luck_ = 0;
  Slot slot_;
  std::size_t on_path_ = kNoExit;
};

}  // namespace

std::unique_ptr<Policy> make_audited(const PolicyOptions& options) {
  return std::make_unique<Audited>(options);
}

}  // namespace splitee::policy
