#include "policy/replay/replay_types.h"

#include <numeric>

#include "base/rng.h"

namespace splitee::policy {

std::uint64_t run_seed(const ReplayOptions& options, std::size_t run) {
  return mix_seed(options.seed) + run;
}

void fill_order(const ReplayOptions& options, std::size_t run, std::span<std::uint32_t> order) {
  std::iota(order.begin(), order.end(), 0u);
  if (options.order == Order::kFile) return;
  Rng rng(run_seed(options, run));
  shuffle(order, rng);
}

}  // namespace splitee::policy
