// What a model file suggests to the policies that decide about it.
// Thread rule: pure functions.
#pragma once

#include "policy/policy.h"
#include "runtime/network.h"

namespace splitee::policy {

// Held-out rows; the layers of the exits, where `options` names none; and, with `take_alphas`, the
// thresholds that the file has.
inline void take_from_model(const runtime::NetworkInfo& info, bool take_alphas,
                            PolicyOptions& options) {
  options.prior_rows = info.held_out;
  options.prior_kinds = info.held_out_kinds;
  if (options.layer_of.empty()) options.layer_of = info.exit_layers;
  if (!take_alphas) return;
  if (info.alpha > 0) options.alpha = info.alpha;
  if (options.exit_alphas.empty()) options.exit_alphas = info.exit_alphas;
}

}  // namespace splitee::policy
