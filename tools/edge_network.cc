#include "tools/edge_network.h"

#include "tools/clock.h"

namespace splitee::tools {

using transport::OffloadOutcome;

void EdgeNetwork::start(const runtime::Encoding& input) {
  input_ = &input;
  begun_ = false;
  usage_ = {};
  status_ = {};
  problem_.clear();
}

policy::ExitReading EdgeNetwork::evaluate(std::size_t arm) {
  if (!begun_) {
    status_ = engine_.begin(input_->ids, input_->types);
    begun_ = status_.ok();
  }
  if (!begun_) return {};
  status_ = engine_.run_to(engine_.model().config().exit_layers[arm]);
  if (!status_.ok()) return {};
  const policy::ExitReading reading = policy::read_exit(engine_.evaluate_exit(arm));
  class_index_ = static_cast<std::uint32_t>(reading.prediction);
  return reading;
}

std::optional<float> EdgeNetwork::offload(std::size_t arm) {
  transport::OffloadRequest request;
  if (arm == policy::kOffloadAtOnce) {
    request.tokens = input_->ids.size();
    request.ids = input_->ids;
    request.types = input_->types;
  } else {
    request.layer = engine_.layer();
    request.tokens = engine_.tokens();
    request.activation = engine_.activation();
  }
  const Stopwatch watch;
  const OffloadOutcome outcome = client_->offload(request, deadline_us_);
  usage_.wait_us = watch.elapsed_us();
  usage_.bytes_sent = outcome.bytes_sent;
  if (outcome.kind != OffloadOutcome::Kind::kReply) {
    usage_.link_us = usage_.wait_us;
    problem_ = outcome.reason;
    return std::nullopt;
  }
  usage_.link_us = outcome.link_us;
  usage_.server_us = outcome.reply.server_us;
  class_index_ = outcome.reply.class_index;
  return outcome.reply.confidence;
}

}  // namespace splitee::tools
