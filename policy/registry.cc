#include <algorithm>
#include <array>
#include <cmath>

#include "policy/adaptive.h"
#include "policy/cascade.h"
#include "policy/factored.h"
#include "policy/factored_alpha.h"
#include "policy/fixed_arm.h"
#include "policy/learners.h"
#include "policy/policy.h"
#include "policy/splitee.h"
#include "policy/splitee_s.h"

namespace splitee::policy {
namespace {

using runtime::Code;
using runtime::Result;
using runtime::Status;

struct Entry {
  PolicyInfo info;
  std::unique_ptr<Policy> (*make)(const PolicyOptions&);
};

// The one list of policies: a new one is an entry here and its files in meson.build.
constexpr Entry kPolicies[] = {
    {{"splitee", "UCB1 over splits: exit there if sure, else offload"}, make_splitee},
    {{"splitee-s", "as splitee, learning from every exit on the way", true}, make_splitee_s},
    {{"splitee-s-known", "as splitee-s, with the known side rewards only (biased)", true},
     make_splitee_s_known},
    {{"factored", "confidences learned apart from costs, from every exit on the way", true},
     make_factored},
    {{"factored-alpha", "as factored, with a threshold per exit that it chooses itself", true},
     make_factored_alpha},
    {{.name = "adaptive",
      .summary = "as factored, for measured costs: may send at once, may stay here",
      .stays_here = true},
     make_adaptive},
    {{"ucb1-range", "as splitee, UCB1 on the reward scaled to its range"}, make_ucb1_range},
    {{"ucb-v", "as splitee, UCB-V (variance)"}, make_ucb_v},
    {{"ucb-tuned", "as splitee, UCB-Tuned (variance)"}, make_ucb_tuned},
    {{"kl-ucb", "as splitee, KL-UCB"}, make_kl_ucb},
    {{"bayes-ucb", "as splitee, Bayes-UCB"}, make_bayes_ucb},
    {{"thompson", "as splitee, Thompson sampling"}, make_thompson},
    {{"discounted", "as splitee, forgetting at a rate (changing streams)"}, make_discounted},
    {{"window", "as splitee, on the last samples only (changing streams)"}, make_window},
    {{"restart", "as splitee, starting anew when it detects a change"}, make_restart},
    {{"final", "all layers on the edge"}, make_final},
    {{"offload", "the input to the server at once, no layer on the edge"}, make_offload},
    {{"fixed", "one given split (--split)"}, make_fixed},
    {{"random", "a split drawn for each sample"}, make_random},
    {{"random-arm", "one split, drawn once"}, make_random_arm},
    {{"threshold", "every exit in turn until the confidence is alpha (ElasticBERT)", true},
     make_threshold},
    {{"entropy", "every exit in turn until the entropy is low (DeeBERT)", true}, make_entropy},
    {{.name = "patience",
      .summary = "every exit in turn until the prediction stays the same (PABEE)",
      .every_exit = true,
      .reads_predictions = true},
     make_patience},
};
constexpr std::size_t kMaxWindow = 10'000'000;
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

bool within(double value, double low, double high) {
  return value >= low && value <= high;
}
bool is_cost(double value) {
  return std::isfinite(value) && value >= 0.0;
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
  if (!is_cost(options.exploration)) return refuse("exploration must be finite and not negative");
  if (options.patience == 0) return refuse("patience must be at least 1");
  if (options.entropy_threshold && !within(*options.entropy_threshold, 0.0, 1.0)) {
    return refuse("entropy threshold must be between 0 and 1");
  }
  if (!(options.discount > 0.0 && options.discount <= 1.0)) {
    return refuse("discount must be above 0 and at most 1");
  }
  if (options.window == 0 || options.window > kMaxWindow) {
    return refuse("window must be between 1 and " + std::to_string(kMaxWindow));
  }
  if (!is_cost(options.change_threshold)) {
    return refuse("change threshold must be finite and not negative");
  }
  return check_costs(options.costs);
}

}  // namespace

Status check_costs(const CostModel& costs) {
  const auto refuse = [](const std::string& why) { return Status(Code::kInvalidArgument, why); };
  if (!is_cost(costs.lambda1) || !is_cost(costs.lambda2) || !(costs.lambda() > 0.0) ||
      !std::isfinite(costs.lambda())) {
    return refuse("lambda1 and lambda2 must be finite and not negative, one of them above 0");
  }
  if (!is_cost(costs.offload)) return refuse("offload cost must be finite and not negative");
  if (!(costs.last_layer_spared >= 0.0 && costs.last_layer_spared <= 1.0)) {
    return refuse("share spared of the last layer must be from 0 to 1");
  }
  if (!std::ranges::all_of(costs.offload_by_layer, is_cost)) {
    return refuse("offload costs by layer must be finite and not negative");
  }
  if (!is_cost(costs.mu)) return refuse("mu must be finite and not negative");
  return {};
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
