// The network that a policy's session drives on the edge: this machine's engine for the layers and
// exits of one sample at a time, with the time they take.
// Thread rule: one thread. Ownership: borrows the engine and the client, which must outlive it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>

#include "base/status.h"
#include "policy/measure/link_costs.h"
#include "policy/policy.h"
#include "runtime/network.h"
#include "transport/client/client.h"

namespace splitee::tools {

struct Tally {
  std::size_t count = 0;
  double us = 0;
};

// Work on the edge since the sample was started or taken up again, by policy::LinkCosts::Part.
using Work = std::array<Tally, policy::LinkCosts::kParts>;

class EdgeNetwork {
 public:
  // Between layers the link of `client` (null where there is none) is looked after, so that answers
  // are noticed when they come. Layers and exits are drawn out to `slowdown` times the least
  // processor time per unit of input that they were seen to need, so that other programs disturb it
  // little.
  EdgeNetwork(const runtime::NetworkInfo& info, runtime::Engine& engine, transport::Client* client,
              double slowdown)
      : info_(info), engine_(engine), client_(client), slowdown_(slowdown) {
    std::ranges::fill(least_us_, std::numeric_limits<double>::infinity());
  }

  // A sample from its beginning. `input` must live until it is answered.
  void start(const runtime::Prepared& input);
  // A sample from where it was sent: the `activation` of `layer`, or, for layer 0, its input.
  void resume(const runtime::Prepared& input, std::size_t layer, std::span<const float> activation);

  // Whether layers and exits are drawn out: not while the least times are found out.
  void draw_out(bool on) { drawn_out_ = on; }

  // What policy::EpisodeRunner asks of a network.
  policy::ExitReading evaluate(std::size_t arm);
  void will_go_on() { goes_on_ = true; }

  // Of the exit last evaluated.
  std::uint32_t class_index() const { return class_index_; }
  // All of what it says.
  const std::vector<float>& answers() const { return answers_; }
  const Work& work() const { return work_; }
  // Of the sample at hand: the layer reached.
  std::size_t layer() const { return begun_ ? engine_.layer() : 0; }
  // Not ok if the engine refused the sample: its answer means nothing then.
  const Status& status() const { return status_; }

 private:
  using Part = policy::LinkCosts::Part;

  template <class Body>
  void add(Part part, const Body& body);
  void run_to(std::size_t last);
  policy::ExitReading read(std::span<const float> exit);

  const runtime::NetworkInfo& info_;
  runtime::Engine& engine_;
  transport::Client* client_;
  double slowdown_;
  bool drawn_out_ = true;
  const runtime::Prepared* input_ = nullptr;
  bool begun_ = false;
  bool goes_on_ = false;    // beyond the exit evaluated next
  bool exit_read_ = false;  // of the layer reached, before it was complete
  std::uint32_t class_index_ = 0;
  std::vector<float> answers_;
  Work work_{};
  double least_us_[policy::LinkCosts::kParts];  // per unit of input
  Status status_;
};

}  // namespace splitee::tools
