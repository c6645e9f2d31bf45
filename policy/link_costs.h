// Costs as measured: how long layers and exits take here, what the link takes and what the server
// takes, turned into SplitEE's lambda and o (arXiv 2309.09195, section 3).
// An engine reads the last exit of a sample before that layer is complete (runtime/engine.h). With
// l the mean time of a layer, h that of an exit's head, and e that of a last exit with as much of
// its layer as it needs, a layer with its exit, l + h, costs lambda in the unit of the CostModel
// given:
//   lambda1 = lambda * l / (l + h),  lambda2 = lambda * h / (l + h),
//   last_layer_spared = (l + h - e) / l,
//   o(i) = lambda * weight * (link time + server time, sending from layer i) / (l + h).
// `weight` is 1 where latency is the cost; for energy it is the power drawn while waiting over the
// power drawn while computing. Means fade: the last hundred or so count.
// Pure: no clock. Thread rule: one thread at a time.
#pragma once

#include <algorithm>
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
  // Work on the edge. kRest: of a layer, after kExit was read where the sample went on after all.
  enum Part { kLayer, kHead, kExit, kRest };
  static constexpr std::size_t kParts = 4;
  void add_work(Part part, std::size_t count, double us);
  // An answered request; `layers` were run by the server.
  void add_offload(std::int64_t sent_us, std::int64_t link_us, std::uint64_t bytes,
                   std::size_t layers, double server_us);
  // An exchange without work.
  void add_probe(std::int64_t sent_us, std::int64_t rtt_us, std::uint64_t bytes) {
    link_.add(sent_us, rtt_us, bytes);
  }

  // Whether the times of work here, and of the link, were measured at all.
  bool work_known() const { return parts_[kExit].known() && layer_us() > 0.0; }
  bool known() const { return work_known() && link_.known(); }
  // A layer with its exit: l + h.
  double unit_us() const { return layer_us() + head_us(); }
  double server_layer_us() const { return server_layer_.value(); }
  const LinkEstimator& link() const { return link_; }
  // From sending `bytes` to the answer of a server that runs `layers`, each taking `scale` times
  // the mean.
  double offload_us(double bytes, std::size_t layers, double scale = 1.0) const {
    return link_.expected_us(bytes) + server_layer_.value() * scale * static_cast<double>(layers);
  }

  // What waiting `us` costs in units where a mean layer with its exit costs `lambda`.
  double waiting(double us, double lambda, double weight) const {
    return lambda * weight * us / unit_us();
  }
  // Sets everything but mu of `costs`; lambda1 + lambda2 stays what it is.
  // `offload_us`: expected per layer sent from, 0 .. layers; empty leaves o. Requires work_known().
  void price(std::span<const double> offload_us, double weight, CostModel& costs) const;

 private:
  double layer_us() const;
  // Part of an exit, so never more than one.
  double head_us() const { return std::min(parts_[kHead].value(), parts_[kExit].value()); }

  FadingMean parts_[kParts];
  FadingMean server_layer_;
  LinkEstimator link_;
};

}  // namespace splitee::policy
