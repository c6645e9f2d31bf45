// What a splitee-edge measures as it goes, and what it makes of it: which payload to send, and what
// layers, exits and offloads cost.
// Thread rule: one thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "policy/measure/link_costs.h"
#include "runtime/network.h"
#include "tools/edge/edge_network.h"
#include "transport/client/client.h"

namespace splitee::tools {

enum class Payload { kActivation, kInput, kAuto };

struct PayloadOptions {
  Payload payload = Payload::kActivation;
  std::optional<transport::Dtype> activation = transport::Dtype::kF32;  // nothing: by bandwidth
};

// What one offload sends.
struct Parcel {
  std::size_t layer = 0;  // 0: the input
  transport::Dtype dtype = transport::Dtype::kInput;
  double expected_us = 0;  // until the answer
};

class EdgeMeter {
 public:
  EdgeMeter(const runtime::NetworkInfo& info, const PayloadOptions& options)
      : info_(info), layers_(info.layers()), grows_(info.work_grows()), options_(options) {}

  // A sample begins. Its length comes into the mean, to which all times are scaled.
  void add_sample(std::size_t length) {
    length_.add(1.0, static_cast<double>(length));
    costs_.add_sample();
  }
  void add_work(const Work& work, std::size_t length);
  // An answered request that sent the activation of `layer`, or the input.
  void add_reply(const transport::OffloadOutcome& outcome, std::size_t layer, std::size_t length);
  void add_probe(const transport::LinkProbe& probe) {
    costs_.add_probe(probe.sent_us, probe.rtt_us, probe.bytes);
  }

  // What to send of a sample whose activation of `layer` (0: only the input) is at hand.
  Parcel choose(std::size_t layer, std::size_t length);

  bool work_known() const { return costs_.work_known(); }
  const policy::LinkCosts& costs() const { return costs_; }
  // Sets the costs to those of now, for a sample of mean length; leaves them while not everything
  // has been measured.
  void price(double wait_weight, policy::CostModel& costs);

 private:
  // What to multiply times of a sample of this length with: where they grow, about like it.
  double scale(std::size_t length) const {
    if (!grows_) return 1.0;
    return length_.value() / static_cast<double>(std::max<std::size_t>(1, length));
  }
  Parcel parcel(std::size_t layer, std::size_t length, transport::Dtype dtype) const;
  Parcel best_activation(std::size_t layer, std::size_t length) const;
  Parcel best(std::size_t layer, std::size_t length) const;

  runtime::NetworkInfo info_;
  std::size_t layers_;
  bool grows_;  // longer samples take longer
  PayloadOptions options_;
  policy::LinkCosts costs_;
  policy::FadingMean length_;
  std::vector<double> offload_us_;  // by layer, of price()
  bool input_next_ = false;         // while the bandwidth is unknown and matters, both in turn
};

}  // namespace splitee::tools
