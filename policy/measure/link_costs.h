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
// While nothing is sent, what was once seen of the server and of the bandwidth may no longer hold,
// and one bad time at the start could end all sending for good. So its part in the link and server
// times expected is halved per ten samples for each answer behind it (a hundred at the most), until
// an offload is worth a try again. The round trip is measured by probes and needs no such thing.
// Pure: no clock. Thread rule: one thread at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "policy/cost.h"
#include "policy/measure/link_estimator.h"

namespace splitee::policy {

// Total over count, both fading with every addition.
class FadingMean {
 public:
  explicit FadingMean(double fade = 0.99) : fade_(fade) {}
  void add(double count, double total) {
    additions_ = fade_ * additions_ + 1.0;
    count_ = fade_ * count_ + count;
    total_ = fade_ * total_ + total;
  }
  bool known() const { return count_ > 0.0; }
  double value() const { return known() ? total_ / count_ : 0.0; }
  // Additions that count, fading too.
  double additions() const { return additions_; }

 private:
  double fade_;
  double additions_ = 0, count_ = 0, total_ = 0;
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
  // A sample begins: what was seen of the server is a sample older.
  void add_sample();
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
    const double server_us = server_layer_.value() * scale * static_cast<double>(layers);
    return link_.rtt_us() + trust_ * (link_.us_per_byte() * bytes + server_us);
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
  FadingMean server_layer_{0.9};
  double trust_ = 1.0;  // in what offloads told, 0 to 1
  LinkEstimator link_;
};

}  // namespace splitee::policy
