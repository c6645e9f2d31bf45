// Costs as measured: how long layers and exits take here, what the link takes and what the server
// takes, turned into SplitEE's lambda and o (arXiv 2309.09195, section 3).
// A mean layer with its exit costs lambda, in the unit of the CostModel given; so with l and e the
// mean times of a layer and an exit here
//   lambda1 = lambda * l / (l + e),  lambda2 = lambda * e / (l + e),
//   o(i)    = lambda * weight * (link time + server time, sending from layer i) / (l + e).
// `weight` is 1 where latency is the cost; for energy it is the power drawn while waiting over the
// power drawn while computing. Means fade: the last hundred or so count.
// Pure: no clock. Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <span>

#include "policy/cost.h"
#include "policy/link_estimator.h"

namespace splitee::policy {

// Total over count, both fading with every addition.
class FadingMean {
 public:
  void add(double count, double total) {
    count_ = kFade * count_ + count;
    total_ = kFade * total_ + total;
  }
  bool known() const { return count_ > 0.0; }
  double value() const { return known() ? total_ / count_ : 0.0; }

 private:
  static constexpr double kFade = 0.99;
  double count_ = 0, total_ = 0;
};

class LinkCosts {
 public:
  // Work on the edge, microseconds for `count` layers or exits.
  void add_layers(std::size_t count, double us) { layer_.add(static_cast<double>(count), us); }
  void add_exits(std::size_t count, double us) { exit_.add(static_cast<double>(count), us); }
  // An answered request; `layers` were run by the server.
  void add_offload(std::int64_t sent_us, std::int64_t link_us, std::uint64_t bytes,
                   std::size_t layers, double server_us);
  // An exchange without work.
  void add_probe(std::int64_t sent_us, std::int64_t rtt_us, std::uint64_t bytes) {
    link_.add(sent_us, rtt_us, bytes);
  }

  // Whether layers and the link were measured at all.
  bool known() const {
    return layer_.known() && exit_.known() && link_.known() && layer_us() + exit_us() > 0.0;
  }
  double layer_us() const { return layer_.value(); }
  double exit_us() const { return exit_.value(); }
  double server_layer_us() const { return server_layer_.value(); }
  const LinkEstimator& link() const { return link_; }
  // From sending `bytes` to the answer of a server that runs `layers`.
  double offload_us(double bytes, std::size_t layers) const {
    return link_.expected_us(bytes) + server_layer_.value() * static_cast<double>(layers);
  }

  // What waiting `us` costs in units where a mean layer with its exit costs `lambda`.
  double waiting(double us, double lambda, double weight) const {
    return lambda * weight * us / (layer_.value() + exit_.value());
  }
  // Sets lambda1, lambda2, offload and offload_by_layer of `costs`, whose sum lambda stays.
  // `offload_us`: expected per layer sent from, 0 .. layers. Requires known().
  void price(std::span<const double> offload_us, double weight, CostModel& costs) const;

 private:
  FadingMean layer_, exit_, server_layer_;
  LinkEstimator link_;
};

}  // namespace splitee::policy
