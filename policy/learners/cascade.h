// Early exit without a server: every exit is evaluated in turn, and the first that passes a test
// answers; else the last one does. They never offload and never learn.
//   threshold  confidence >= alpha (ElasticBERT, Liu et al., NAACL 2022)
//   entropy    normalised entropy, -sum p ln p / ln classes, below a threshold (DeeBERT, Xin et
//              al., ACL 2020). Default threshold: the entropy of (alpha, rest spread evenly), so
//              that with two classes it is the same test as `threshold`. Where only the confidence
//              is known (a trace), the rest is taken as spread evenly: exact for two classes.
//   patience   the prediction stayed the same for `patience` exits in a row after the first
//              (PABEE, Zhou et al., NeurIPS 2020, algorithm 1)
// Learned state: none.
#pragma once

#include <memory>

#include "policy/policy.h"

namespace splitee::policy {

std::unique_ptr<Policy> make_threshold(const PolicyOptions& options);
std::unique_ptr<Policy> make_entropy(const PolicyOptions& options);
std::unique_ptr<Policy> make_patience(const PolicyOptions& options);

// Normalised entropy of a distribution; 0 for fewer than two classes.
double normalised_entropy(std::span<const float> probabilities);
// The same for (confidence, rest spread evenly over classes - 1).
double normalised_entropy(double confidence, std::size_t classes);

}  // namespace splitee::policy
