// Policies that never learn and choose their arm without looking at the sample:
//   final       every sample to the last exit, on the edge
//   fixed       one split, given
//   random-arm  one split, drawn once per policy (the paper's regret plots)
//   random      a split drawn per sample
//   offload     the input to the server at once, no layer on the edge (final without a link)
// Learned state: the generator (u64) and the arm in use (u64).
#pragma once

#include <memory>

#include "policy/policy.h"

namespace splitee::policy {

std::unique_ptr<Policy> make_final(const PolicyOptions& options);
std::unique_ptr<Policy> make_fixed(const PolicyOptions& options);
std::unique_ptr<Policy> make_random_arm(const PolicyOptions& options);
std::unique_ptr<Policy> make_random(const PolicyOptions& options);
std::unique_ptr<Policy> make_offload(const PolicyOptions& options);

}  // namespace splitee::policy
