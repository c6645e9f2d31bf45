#include "tools/edge/edge_network.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include <time.h>

#include "base/clock.h"

namespace splitee::tools {
namespace {

double thread_cpu_us() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) * 1e-3;
}

}  // namespace

void EdgeNetwork::start(const runtime::Prepared& input) {
  input_ = &input;
  begun_ = exit_read_ = goes_on_ = false;
  work_ = {};
  status_ = {};
}

void EdgeNetwork::resume(const runtime::Prepared& input, std::size_t layer,
                         std::span<const float> activation) {
  start(input);
  if (layer == 0) return;
  status_ = engine_.resume(layer, info_.shape(layer, input.length).rows, activation);
  begun_ = status_.ok();
}

// Runs the body, and waits for the rest of the time that it is to take.
template <class Body>
void EdgeNetwork::add(Part part, const Body& body) {
  const Stopwatch watch;
  const double before_us = slowdown_ > 1.0 ? thread_cpu_us() : 0.0;
  body();
  if (slowdown_ > 1.0) {
    const double units = info_.work_grows() ? static_cast<double>(input_->length) : 1.0;
    double& least_us = least_us_[part];
    least_us = std::min(least_us, (thread_cpu_us() - before_us) / units);
    const double rest_us = slowdown_ * least_us * units - watch.elapsed_exact_us();
    if (drawn_out_) std::this_thread::sleep_for(std::chrono::duration<double, std::micro>(rest_us));
  }
  ++work_[part].count;
  work_[part].us += watch.elapsed_exact_us();
}

// The engine computes a layer when the next one is asked for, or an exit of it.
void EdgeNetwork::run_to(std::size_t last) {
  while (status_.ok() && engine_.layer() < last) {
    const std::size_t next = engine_.layer() + 1;
    const auto step = [&] { status_ = engine_.run_to(next, /*exit_wanted=*/next == last); };
    if (engine_.ready_layer() == engine_.layer()) {
      step();  // nothing is computed yet
    } else {
      add(exit_read_ ? Part::kRest : Part::kLayer, step);
    }
    exit_read_ = false;
    if (client_ != nullptr) client_->ready();
  }
}

policy::ExitReading EdgeNetwork::read(std::span<const float> exit) {
  answers_.assign(exit.begin(), exit.end());
  if (info_.output == runtime::Output::kClasses) return policy::read_exit(exit);
  policy::ExitReading reading;
  reading.confidence = 1;  // the last exit is always sure
  return reading;
}

policy::ExitReading EdgeNetwork::evaluate(std::size_t arm) {
  if (!begun_ && status_.ok()) {
    status_ = engine_.begin(input_->view());
    begun_ = status_.ok();
  }
  if (!begun_) return {};
  run_to(info_.exit_layers[arm]);
  if (!status_.ok()) return {};
  policy::ExitReading reading;
  if (goes_on_) add(Part::kLayer, [&] { engine_.finish_layer(); });
  goes_on_ = false;
  const bool complete = engine_.ready_layer() == engine_.layer();
  add(complete ? Part::kHead : Part::kExit, [&] { reading = read(engine_.evaluate_exit(arm)); });
  exit_read_ = !complete;
  class_index_ = static_cast<std::uint32_t>(reading.prediction);
  return reading;
}

}  // namespace splitee::tools
