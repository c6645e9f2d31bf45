#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "policy/learners/adaptive.h"
#include "policy/learners/audited.h"
#include "policy/learners/cascade.h"
#include "policy/learners/factored.h"
#include "policy/learners/factored_alpha.h"
#include "policy/learners/fixed_arm.h"
#include "policy/learners/learners.h"
#include "policy/learners/splitee.h"
#include "policy/learners/splitee_s.h"
#include "policy/policy.h"

namespace splitee::policy {
namespace {

struct Entry {
  PolicyInfo info;
  std::unique_ptr<Policy> (*make)(const PolicyOptions&);
};

constexpr double kNotSet = std::numeric_limits<double>::quiet_NaN();
constexpr double kMostNumber = 1e12;
constexpr double kMostSamples = 10'000'000;

constexpr std::string_view kRewards[] = {"none", "paper"};

// The one list of options: a new one is a row here, a member of PolicyOptions and its name beside
// the policies that read it; flags, help and checks follow.
constexpr OptionInfo kOptions[] = {
    {.name = "max-disagreement",
     .help = "share of the answers that may differ from the last exit's",
     .high = 0.5,
     .get = [](const PolicyOptions& o) { return o.max_disagreement; },
     .set = [](PolicyOptions& o, double value) { o.max_disagreement = value; }},
    {.name = "level",
     .help = "confidence of the bound on that share",
     .high = 0.999999,
     .above_low = true,
     .get = [](const PolicyOptions& o) { return o.level; },
     .set = [](PolicyOptions& o, double value) { o.level = value; }},
    {.name = "reward",
     .help =
         "what to earn in place of keeping to --max-disagreement; paper: confidence - mu * cost",
     .words = kRewards,
     .get = [](const PolicyOptions& o) { return o.objective == Objective::kReward ? 1.0 : 0.0; },
     .set =
         [](PolicyOptions& o, double value) {
           if (value != 0.0) o.objective = Objective::kReward;
         }},
    {.name = "budget",
     .help = "mean cost of a sample to keep to, at the least disagreement, in place of "
             "--max-disagreement; in lambda, or in --budget-unit; 0: none",
     .high = kMostNumber,
     .get = [](const PolicyOptions& o) { return o.budget; },
     .set =
         [](PolicyOptions& o, double value) {
           o.budget = value;
           if (value > 0.0) o.objective = Objective::kBudget;
         }},
    {.name = "exploration",
     .help = "weight of the exploration term (c of UCB1)",
     .high = kMostNumber,
     .get = [](const PolicyOptions& o) { return o.exploration; },
     .set = [](PolicyOptions& o, double value) { o.exploration = value; }},
    {.name = "entropy-threshold",
     .help = "exit below this entropy, 1 being that of equal probabilities",
     .unset = "the entropy of an answer with confidence alpha",
     .get = [](const PolicyOptions& o) { return o.entropy_threshold.value_or(kNotSet); },
     .set = [](PolicyOptions& o, double value) { o.entropy_threshold = value; }},
    {.name = "first-exit",
     .help = "exit to look at first, counted from 1; those before answer nothing",
     .low = 1,
     .high = 1e6,
     .whole = true,
     .get = [](const PolicyOptions& o) { return static_cast<double>(o.first_exit); },
     .set = [](PolicyOptions& o, double value) { o.first_exit = static_cast<std::size_t>(value); }},
    {.name = "patience",
     .help = "equal predictions in a row before an exit",
     .low = 1,
     .high = 1e6,
     .whole = true,
     .get = [](const PolicyOptions& o) { return static_cast<double>(o.patience); },
     .set = [](PolicyOptions& o, double value) { o.patience = static_cast<std::size_t>(value); }},
    {.name = "discount",
     .help = "weight of a sample one sample later",
     .above_low = true,
     .get = [](const PolicyOptions& o) { return o.discount; },
     .set = [](PolicyOptions& o, double value) { o.discount = value; }},
    {.name = "policy-window",
     .help = "samples remembered",
     .low = 1,
     .high = kMostSamples,
     .whole = true,
     .get = [](const PolicyOptions& o) { return static_cast<double>(o.window); },
     .set = [](PolicyOptions& o, double value) { o.window = static_cast<std::size_t>(value); }},
    {.name = "change-threshold",
     .help = "reward summed beyond its mean, then an alarm",
     .high = kMostNumber,
     .get = [](const PolicyOptions& o) { return o.change_threshold; },
     .set = [](PolicyOptions& o, double value) { o.change_threshold = value; }},
};

constexpr std::string_view kAudited[] = {"max-disagreement", "level", "reward", "budget"};
constexpr std::string_view kExploration[] = {"exploration"};
constexpr std::string_view kFirstExit[] = {"first-exit"};
constexpr std::string_view kEntropy[] = {"entropy-threshold"};
constexpr std::string_view kPatience[] = {"patience"};
constexpr std::string_view kDiscounted[] = {"exploration", "discount"};
constexpr std::string_view kWindow[] = {"exploration", "policy-window"};
constexpr std::string_view kRestart[] = {"exploration", "change-threshold"};

// The one list of policies: a new one is an entry here and its files in meson.build.
constexpr Entry kPolicies[] = {
    {{.name = "audited",
      .summary = "least cost within a limit on disagreement, checked by audits",
      .looks = Looks::kAtSplit,
      .reads_predictions = true,
      .audits = true,
      .state_fits_any_costs = true,
      .options = kAudited},
     make_audited},
    {{.name = "splitee",
      .summary = "UCB1 over splits: exit there if sure, else offload",
      .options = kExploration},
     make_splitee},
    {{.name = "splitee-s",
      .summary = "as splitee, learning from every exit on the way",
      .looks = Looks::kUpToSplit,
      .options = kExploration},
     make_splitee_s},
    {{.name = "splitee-s-known",
      .summary = "as splitee-s, with the known side rewards only (biased)",
      .looks = Looks::kUpToSplit,
      .options = kExploration},
     make_splitee_s_known},
    {{.name = "factored",
      .summary = "confidences learned apart from costs, from every exit on the way",
      .looks = Looks::kUpToSplit,
      .state_fits_any_costs = true,
      .options = kExploration},
     make_factored},
    {{.name = "factored-alpha",
      .summary = "as factored, with a threshold per exit that it chooses itself",
      .looks = Looks::kUpToSplit,
      .state_fits_any_costs = true,
      .options = kExploration},
     make_factored_alpha},
    {{.name = "adaptive",
      .summary = "as factored, for measured costs: may send at once, may stay here",
      .stays_here = true,
      .state_fits_any_costs = true,
      .options = kExploration},
     make_adaptive},
    {{.name = "ucb1-range",
      .summary = "as splitee, UCB1 on the reward scaled to its range",
      .options = kExploration},
     make_ucb1_range},
    {{.name = "ucb-v", .summary = "as splitee, UCB-V (variance)", .options = kExploration},
     make_ucb_v},
    {{.name = "ucb-tuned", .summary = "as splitee, UCB-Tuned (variance)", .options = kExploration},
     make_ucb_tuned},
    {{.name = "kl-ucb", .summary = "as splitee, KL-UCB", .options = kExploration}, make_kl_ucb},
    {{.name = "bayes-ucb", .summary = "as splitee, Bayes-UCB", .options = kExploration},
     make_bayes_ucb},
    {{.name = "thompson", .summary = "as splitee, Thompson sampling", .options = kExploration},
     make_thompson},
    {{.name = "discounted",
      .summary = "as splitee, forgetting at a rate (changing streams)",
      .options = kDiscounted},
     make_discounted},
    {{.name = "window",
      .summary = "as splitee, on the last samples only (changing streams)",
      .options = kWindow},
     make_window},
    {{.name = "restart",
      .summary = "as splitee, starting anew when it detects a change",
      .options = kRestart},
     make_restart},
    {{.name = "final",
      .summary = "all layers on the edge",
      .looks = Looks::kAtLast,
      .sends = false},
     make_final},
    {{.name = "offload",
      .summary = "the input to the server at once, no layer on the edge",
      .looks = Looks::kAtNone},
     make_offload},
    {{.name = "fixed", .summary = "one given split (--split)", .looks = Looks::kAtGivenSplit},
     make_fixed},
    {{.name = "random", .summary = "a split drawn for each sample"}, make_random},
    {{.name = "random-arm", .summary = "one split, drawn once"}, make_random_arm},
    {{.name = "threshold",
      .summary = "every exit in turn until the confidence is alpha (ElasticBERT)",
      .looks = Looks::kUpToSplit,
      .sends = false,
      .options = kFirstExit},
     make_threshold},
    {{.name = "entropy",
      .summary = "every exit in turn until the entropy is low (DeeBERT)",
      .looks = Looks::kUpToSplit,
      .sends = false,
      .options = kEntropy},
     make_entropy},
    {{.name = "patience",
      .summary = "every exit in turn until the prediction stays the same (PABEE)",
      .looks = Looks::kUpToSplit,
      .sends = false,
      .reads_predictions = true,
      .options = kPatience},
     make_patience},
};
constexpr std::size_t kCount = std::size(kPolicies);

constexpr auto kInfos = [] {
  std::array<PolicyInfo, kCount> infos{};
  for (std::size_t i = 0; i < kCount; ++i) infos[i] = kPolicies[i].info;
  return infos;
}();

constexpr auto kNames = [] {
  std::array<std::string_view, kCount> names{};
  for (std::size_t i = 0; i < kCount; ++i) names[i] = kPolicies[i].info.name;
  return names;
}();

std::string known_names() {
  std::string text;
  for (const std::string_view name : kNames) text += (text.empty() ? "" : ", ") + std::string(name);
  return text;
}

constexpr double kMostCost = 1e30;  // rewards and their squares stay finite

bool within(double value, double low, double high) {
  return value >= low && value <= high;
}
bool is_cost(double value) {
  return value >= 0.0 && value <= kMostCost;
}

Status check(const PolicyOptions& options) {
  const auto refuse = [](const std::string& why) { return Status(Code::kInvalidArgument, why); };
  const std::vector<std::size_t>& layers = options.layer_of;
  if (layers.empty() || layers.front() == 0) return refuse("layer_of: at least one layer, from 1");
  if (std::ranges::adjacent_find(layers, std::greater_equal<>()) != layers.end()) {
    return refuse("layer_of: layers must ascend");
  }
  if (!within(options.alpha, 0.0, 1.0)) return refuse("alpha must be between 0 and 1");
  if (!options.exit_alphas.empty() && options.exit_alphas.size() != layers.size()) {
    return refuse("alpha per exit: " + std::to_string(options.exit_alphas.size()) +
                  " numbers for " + std::to_string(layers.size()) + " exits");
  }
  for (const double alpha : options.exit_alphas) {
    if (!(alpha > 0.0 && alpha <= 1.0)) return refuse("alpha per exit must be within (0, 1]");
  }
  if (options.fixed_arm >= layers.size()) {
    return refuse("split must be one of the " + std::to_string(layers.size()) + " exits");
  }
  if (options.first_exit > layers.size()) {
    return refuse("first exit must be one of the " + std::to_string(layers.size()) + " exits");
  }
  for (const OptionInfo& option : kOptions) {
    const double value = option.get(options);
    const bool left_out = std::isnan(value) && !option.unset.empty();
    if (left_out || in_range(option, value)) continue;
    std::string name(option.name);
    std::ranges::replace(name, '-', ' ');
    return refuse(name + " must be " + range_text(option));
  }
  if (options.prior_rows.size() % layers.size() != 0 ||
      !std::ranges::all_of(options.prior_rows, [](float v) { return v >= -1.0f && v <= 1.0f; })) {
    return refuse("prior rows must hold a number from -1 to 1 per exit");
  }
  return check_costs(options.costs);
}

}  // namespace

Status check_costs(const CostModel& costs) {
  const auto refuse = [](const std::string& why) { return Status(Code::kInvalidArgument, why); };
  if (!is_cost(costs.lambda1) || !is_cost(costs.lambda2) || !(costs.lambda() > 0.0) ||
      !std::isfinite(costs.lambda())) {
    return refuse("lambda1 and lambda2 must be from 0 to 1e30, one of them above 0");
  }
  if (!is_cost(costs.offload)) return refuse("offload cost must be from 0 to 1e30");
  if (!(costs.last_layer_spared >= 0.0 && costs.last_layer_spared <= 1.0)) {
    return refuse("share spared of the last layer must be from 0 to 1");
  }
  if (!std::ranges::all_of(costs.offload_by_layer, is_cost)) {
    return refuse("offload costs by layer must be from 0 to 1e30");
  }
  if (!is_cost(costs.mu)) return refuse("mu must be from 0 to 1e30");
  if (!is_cost(costs.budget_unit) || !(costs.budget_unit > 0.0)) {
    return refuse("the unit of the budget must be above 0");
  }
  return {};
}

bool in_range(const OptionInfo& option, double value) {
  if (!option.words.empty()) {
    return value >= 0 && value < static_cast<double>(option.words.size()) &&
           value == std::floor(value);
  }
  const bool low_enough = option.above_low ? value > option.low : value >= option.low;
  return low_enough && value <= option.high && (!option.whole || value == std::floor(value));
}

std::string range_text(const OptionInfo& option) {
  if (!option.words.empty()) {
    std::string words;
    for (const std::string_view word : option.words) {
      words += (words.empty() ? "one of " : ", ") + std::string(word);
    }
    return words;
  }
  const auto text = [](double number) {
    std::string digits = std::to_string(number);
    digits.erase(digits.find_last_not_of('0') + 1);
    if (digits.back() == '.') digits.pop_back();
    return digits;
  };
  const std::string low = text(option.low);
  const std::string kind = option.whole ? "a whole number " : "";
  if (option.high >= kMostNumber) {
    return kind + (option.above_low ? "above " + low : "at least " + low);
  }
  return kind + (option.above_low ? "above " + low + " and at most " : "from " + low + " to ") +
         text(option.high);
}

const PolicyInfo* find_policy(std::string_view name) {
  const auto* info = std::ranges::find(kInfos, name, &PolicyInfo::name);
  return info == std::end(kInfos) ? nullptr : info;
}

std::span<const OptionInfo> option_list() {
  return kOptions;
}

std::span<const PolicyInfo> policy_list() {
  return kInfos;
}
std::span<const std::string_view> policy_names() {
  return kNames;
}

Result<std::unique_ptr<Policy>> make_policy(std::string_view name, const PolicyOptions& options) {
  const auto* entry =
      std::ranges::find_if(kPolicies, [&](const Entry& e) { return e.info.name == name; });
  if (entry == std::end(kPolicies)) {
    return Status(Code::kInvalidArgument,
                  "unknown policy '" + std::string(name) + "'; known: " + known_names());
  }
  if (Status status = check(options); !status.ok()) return status;
  return entry->make(options);
}

}  // namespace splitee::policy
