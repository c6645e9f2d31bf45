// How many requests may be sent a second time: a share of those sent a first time, so that retries
// never make an overload worse (Finagle and gRPC limit theirs alike). An account: each
// request adds `share` of one, each retry takes one.
// Thread rule: one thread at a time.
#pragma once

#include <algorithm>

namespace splitee::transport {

class RetryBudget {
 public:
  // Saved up at the most; what an outburst of failures can spend.
  static constexpr double kMostCredit = 10.0;

  // `share` in 0 .. 1; 0 allows none.
  explicit RetryBudget(double share) : share_(share), credit_(share > 0 ? 1.0 : 0.0) {}

  void add_request() { credit_ = std::min(kMostCredit, credit_ + share_); }
  bool take() {
    if (credit_ < 1.0) return false;
    credit_ -= 1.0;
    return true;
  }

 private:
  double share_;
  double credit_;
};

}  // namespace splitee::transport
