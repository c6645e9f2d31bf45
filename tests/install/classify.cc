// A program of one's own on the installed library: classifies the lines of standard input, each as
// deep as its first sure exit. install_test.py builds it as a user would; README.md shows it.
#include <cstdio>
#include <iostream>
#include <string>

#include "kernels/kernels.h"
#include "policy/episode.h"
#include "policy/policy.h"
#include "runtime/loader/loader.h"

namespace {

using namespace splitee;

// What policy/episode.h asks of a network.
struct LocalNetwork {
  const runtime::NetworkInfo& info;
  runtime::Engine& engine;
  std::span<const float> probabilities;

  policy::ExitReading evaluate(std::size_t arm) {
    const Status status = engine.run_to(info.exit_layers[arm]);
    if (!status.ok()) {
      std::cerr << status.message() << '\n';
      std::exit(1);
    }
    probabilities = engine.evaluate_exit(arm);
    return policy::read_exit(probabilities);
  }
  std::optional<float> offload(std::size_t) { return std::nullopt; }  // no server
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: classify MODEL ALPHA < LINES\n";
    return 2;
  }
  const auto network = runtime::open_network(argv[1], *kernels::find_target(""));
  if (!network.ok()) {
    std::cerr << network.status().message() << '\n';
    return 1;
  }
  const runtime::NetworkInfo& info = (*network)->info();
  policy::PolicyOptions options;
  options.layer_of = info.exit_layers;
  options.alpha = std::stod(argv[2]);
  const auto policy = policy::make_policy("threshold", options);
  if (!policy.ok()) {
    std::cerr << policy.status().message() << '\n';
    return 1;
  }

  const auto engine = (*network)->make_engine();
  LocalNetwork local{info, *engine, {}};
  policy::EpisodeRunner session(**policy, options);
  for (std::string line; std::getline(std::cin, line);) {
    runtime::Input text;
    text.bytes = line;
    const auto input = (*network)->prepare(text);
    const Status status = input.ok() ? engine->begin(input->view()) : input.status();
    if (!status.ok()) {
      std::cerr << status.message() << '\n';
      return 1;
    }
    const policy::Outcome& outcome = session.run(policy::LinkState::kNone, local);
    const std::size_t prediction = policy::read_exit(local.probabilities).prediction;
    std::printf("%s %zu\n", info.labels[prediction].c_str(), info.exit_layers[outcome.exit_arm]);
  }
  return 0;
}
