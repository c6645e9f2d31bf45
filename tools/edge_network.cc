#include "tools/edge_network.h"

#include <chrono>
#include <thread>

#include "tools/clock.h"

namespace splitee::tools {

void EdgeNetwork::start(const runtime::Encoding& input) {
  input_ = &input;
  begun_ = false;
  work_ = {};
  status_ = {};
}

void EdgeNetwork::resume(const runtime::Encoding& input, std::size_t layer,
                         std::span<const float> activation) {
  start(input);
  if (layer == 0) return;
  status_ = engine_.resume(layer, input.ids.size(), activation);
  begun_ = status_.ok();
}

// Runs the body, and waits for the rest of the time it is to take.
template <class Body>
double EdgeNetwork::timed(const Body& body) {
  const Stopwatch watch;
  body();
  if (slowdown_ > 1.0) {
    const double rest_us = watch.elapsed_exact_us() * (slowdown_ - 1.0);
    std::this_thread::sleep_for(std::chrono::duration<double, std::micro>(rest_us));
  }
  return watch.elapsed_exact_us();
}

policy::ExitReading EdgeNetwork::evaluate(std::size_t arm) {
  if (!begun_ && status_.ok()) {
    status_ = engine_.begin(input_->ids, input_->types);
    begun_ = status_.ok();
  }
  if (!begun_) return {};
  const std::size_t last = engine_.model().config().exit_layers[arm];
  while (engine_.layer() < last) {
    work_.layers_us += timed([&] { engine_.run_to(engine_.layer() + 1); });
    ++work_.layers;
    if (client_ != nullptr) client_->ready();
  }
  policy::ExitReading reading;
  work_.exits_us += timed([&] { reading = policy::read_exit(engine_.evaluate_exit(arm)); });
  ++work_.exits;
  class_index_ = static_cast<std::uint32_t>(reading.prediction);
  return reading;
}

}  // namespace splitee::tools
