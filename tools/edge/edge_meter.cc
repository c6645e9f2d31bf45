#include "tools/edge/edge_meter.h"

#include <cmath>

#include "transport/wire/wire.h"

namespace splitee::tools {

using transport::Dtype;

namespace {

// A smaller type must save this share of the whole offload: what it loses is small but not nothing.
constexpr double kWorthwhile = 0.9;

}  // namespace

void EdgeMeter::add_work(const Work& work, std::size_t length) {
  for (std::size_t part = 0; part < work.size(); ++part) {
    costs_.add_work(static_cast<policy::LinkCosts::Part>(part), work[part].count,
                    work[part].us * scale(length));
  }
}

void EdgeMeter::add_reply(const transport::OffloadOutcome& outcome, std::size_t layer,
                          std::size_t length) {
  const std::size_t from = outcome.dtype == Dtype::kInput ? 0 : layer;
  costs_.add_offload(outcome.sent_us, outcome.link_us, outcome.bytes_sent, layers_ - from,
                     outcome.reply.server_us * scale(length));
}

Parcel EdgeMeter::parcel(std::size_t layer, std::size_t length, Dtype dtype) const {
  const std::size_t from = dtype == Dtype::kInput ? 0 : layer;
  const runtime::Shape shape = info_.shape(from, length);
  const std::uint64_t bytes =
      transport::kHeaderBytes + (dtype == Dtype::kInput
                                     ? info_.bytes_of_input(length)
                                     : transport::activation_bytes(dtype, shape.rows, shape.cols));
  return {from, dtype,
          costs_.offload_us(static_cast<double>(bytes), layers_ - from, 1.0 / scale(length))};
}

Parcel EdgeMeter::best_activation(std::size_t layer, std::size_t length) const {
  if (options_.activation) return parcel(layer, length, *options_.activation);
  Parcel chosen = parcel(layer, length, Dtype::kF32);
  for (const Dtype dtype : {Dtype::kF16, Dtype::kI8}) {
    const Parcel smaller = parcel(layer, length, dtype);
    if (smaller.expected_us < kWorthwhile * chosen.expected_us) chosen = smaller;
  }
  return chosen;
}

Parcel EdgeMeter::best(std::size_t layer, std::size_t length) const {
  if (layer == 0 || options_.payload == Payload::kInput) return parcel(0, length, Dtype::kInput);
  const Parcel activation = best_activation(layer, length);
  if (options_.payload == Payload::kActivation) return activation;
  const Parcel input = parcel(0, length, Dtype::kInput);
  return input.expected_us < activation.expected_us ? input : activation;
}

Parcel EdgeMeter::choose(std::size_t layer, std::size_t length) {
  const Parcel expected = best(layer, length);
  if (options_.payload != Payload::kAuto || costs_.link().bandwidth_known()) return expected;
  const Parcel input = parcel(0, length, Dtype::kInput);
  // What an activation could save at most, were its bytes free.
  const double least_us = costs_.offload_us(0.0, layers_ - layer, 1.0 / scale(length));
  if (layer == 0 || least_us > kWorthwhile * input.expected_us) return input;
  input_next_ = !input_next_;
  // The smallest will do to learn the bandwidth, and does no harm on a slow link.
  return input_next_ ? input : parcel(layer, length, options_.activation.value_or(Dtype::kI8));
}

void EdgeMeter::price(double wait_weight, policy::CostModel& costs) {
  if (!costs_.work_known() || !length_.known()) return;
  const auto length = static_cast<std::size_t>(std::lround(length_.value()));
  offload_us_.resize(costs_.known() ? layers_ + 1 : 0);
  // The layer whose exit was read is not complete: the one before is what there is to send.
  for (std::size_t layer = 0; layer < offload_us_.size(); ++layer) {
    offload_us_[layer] = best(layer > 0 ? layer - 1 : 0, length).expected_us;
  }
  costs_.price(offload_us_, wait_weight, costs);
}

}  // namespace splitee::tools
