// Runs token ids through a model and prints every exit's probabilities, for golden.py.
//   run_model --targets                 the kernel targets of this machine, one a line
//   run_model MODEL TARGET THREADS      standard input: one sample a line, ids, "|", types;
//                                       output: one JSON array (exits of arrays of classes) a line
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "runtime/bert/engine.h"
#include "runtime/bert/model.h"

namespace {

using splitee::runtime::BertEngine;
using splitee::runtime::BertNetwork;

int fail(const std::string& message) {
  std::fprintf(stderr, "run_model: %s\n", message.c_str());
  return 1;
}

void print_targets() {
  for (const auto* target : splitee::kernels::compiled_targets()) {
    if (splitee::kernels::supported(*target)) std::printf("%s\n", target->target);
  }
}

// An exit is read before its layer is computed for all tokens, and the next one after.
splitee::Status print_exits(BertEngine& engine) {
  const auto& layers = engine.model().config().exit_layers;
  std::printf("[");
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (const auto status = engine.run_to(layers[i]); !status.ok()) return status;
    const char* separator = i == 0 ? "[" : ", [";
    for (const float probability : engine.evaluate_exit(i)) {
      std::printf("%s%.9g", separator, static_cast<double>(probability));
      separator = ", ";
    }
    std::printf("]");
  }
  std::printf("]\n");
  return {};
}

std::vector<std::int32_t> parse_numbers(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::int32_t> numbers;
  for (std::int32_t number; in >> number;) numbers.push_back(number);
  return numbers;
}

int run(const std::string& path, const std::string& target, std::size_t threads) {
  const auto* kernels = splitee::kernels::find_target(target);
  if (kernels == nullptr) return fail("no target " + target);
  const auto model = BertNetwork::open(path, *kernels);
  if (!model.ok()) return fail(model.status().message());
  BertEngine engine(*model, threads);
  for (std::string line; std::getline(std::cin, line);) {
    const std::size_t bar = line.find('|');
    if (bar == std::string::npos) return fail("a line without |");
    auto status =
        engine.begin(parse_numbers(line.substr(0, bar)), parse_numbers(line.substr(bar + 1)));
    if (status.ok()) status = print_exits(engine);
    if (!status.ok()) return fail(status.message());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() == 1 && arguments[0] == "--targets") {
    print_targets();
    return 0;
  }
  if (arguments.size() != 3) return fail("wrong usage");
  return run(arguments[0], arguments[1], std::stoul(arguments[2]));
}
