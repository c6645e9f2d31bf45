// A program of one's own on the installed library: classifies the lines of standard input, each as
// deep as its first sure exit. install_test.py builds it as a user would; README.md shows it.
#include <cstdio>
#include <iostream>
#include <string>

#include "kernels/kernels.h"
#include "policy/policy.h"
#include "policy/session.h"
#include "runtime/engine.h"

namespace {

using namespace splitee;

// What policy/session.h asks of a network.
struct LocalNetwork {
  runtime::Engine& engine;
  std::span<const float> probabilities;

  policy::ExitReading evaluate(std::size_t arm) {
    const runtime::Status status = engine.run_to(engine.model().config().exit_layers[arm]);
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
  const auto model = runtime::Model::open(argv[1], *kernels::find_target(""));
  if (!model.ok()) {
    std::cerr << model.status().message() << '\n';
    return 1;
  }
  const runtime::ModelConfig& config = (*model)->config();
  policy::PolicyOptions options;
  options.layer_of = config.exit_layers;
  options.alpha = std::stod(argv[2]);
  const auto policy = policy::make_policy("threshold", options);
  if (!policy.ok()) {
    std::cerr << policy.status().message() << '\n';
    return 1;
  }

  runtime::Engine engine(*model);
  LocalNetwork network{engine, {}};
  policy::Session session(**policy, options);
  for (std::string line; std::getline(std::cin, line);) {
    const runtime::Encoding tokens = (*model)->tokenizer().encode(line, nullptr, config.max_tokens);
    const runtime::Status status = engine.begin(tokens.ids, tokens.types);
    if (!status.ok()) {
      std::cerr << status.message() << '\n';
      return 1;
    }
    const policy::Outcome& outcome = session.run(policy::Link::kNone, network);
    const std::size_t prediction = policy::read_exit(network.probabilities).prediction;
    std::printf("%s %zu\n", config.labels[prediction].c_str(),
                config.exit_layers[outcome.exit_arm]);
  }
  return 0;
}
