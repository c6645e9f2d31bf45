// Both halves of split computing by hand, on the C library from C++: one engine runs a text up to
// where a policy sends it, another, as a server would have it, goes on from the activation.
// Arguments: MODEL [OPTION...] of the policy. Prints label, exit and route for every line of input.
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <splitee.h>

namespace {

void check(int result) {
  if (result != SPLITEE_OK) throw std::runtime_error(splitee_last_error());
}

struct End {
  void operator()(void* handle) const { splitee_free(handle); }
};
template <class T>
using Own = std::unique_ptr<T, End>;

struct Sample {
  splitee_engine *edge, *server;
  std::size_t last_exit;
  splitee_payload input, activation;
};

int evaluate(void* user, std::size_t exit, float* probabilities, std::size_t count) {
  return splitee_engine_run(static_cast<Sample*>(user)->edge, exit, probabilities, count);
}

// In place of splitee_client_offload().
int offload(void* user, std::size_t exit, float* probabilities, std::size_t count) {
  auto& sample = *static_cast<Sample*>(user);
  const bool from_input = exit == SPLITEE_INPUT;
  if (!from_input && splitee_engine_activation(sample.edge, &sample.activation)) return 1;
  const splitee_payload* sent = from_input ? &sample.input : &sample.activation;
  if (splitee_engine_begin(sample.server, sent)) return 1;
  return splitee_engine_run(sample.server, sample.last_exit, probabilities, count);
}

splitee_payload payload_in(std::vector<char>& buffer) {
  splitee_payload payload{};
  payload.struct_size = sizeof payload;
  payload.data = buffer.data();
  payload.capacity = buffer.size();
  return payload;
}

void run(int argc, char** argv) {
  if (argc < 2) throw std::runtime_error("usage: halves MODEL [OPTION...] < LINES");
  splitee_model* opened = nullptr;
  check(splitee_model_open(argv[1], nullptr, &opened));
  const Own<splitee_model> model(opened);
  splitee_model_info info{};
  info.struct_size = sizeof info;
  check(splitee_model_info_get(model.get(), &info));

  Sample sample{};
  check(splitee_engine_create(model.get(), 1, &sample.edge));
  const Own<splitee_engine> edge(sample.edge);
  check(splitee_engine_create(model.get(), 1, &sample.server));
  const Own<splitee_engine> server(sample.server);
  splitee_policy* created = nullptr;
  check(splitee_policy_create(model.get(), nullptr, argv + 2, nullptr, 0, &created));
  const Own<splitee_policy> policy(created);

  std::vector<char> input(info.max_payload_bytes), activation(info.max_payload_bytes);
  sample.last_exit = info.exits - 1;
  const splitee_network_calls network{sizeof network, &sample, evaluate, offload};
  for (std::string line; std::getline(std::cin, line);) {
    splitee_input text{};
    text.struct_size = sizeof text;
    text.data = line.data();
    text.bytes = line.size();
    sample.input = payload_in(input);
    sample.activation = payload_in(activation);
    check(splitee_prepare(model.get(), &text, &sample.input));
    check(splitee_engine_begin(sample.edge, &sample.input));
    splitee_outcome outcome{};
    outcome.struct_size = sizeof outcome;
    check(splitee_policy_run(policy.get(), SPLITEE_LINK_UP, &network, &outcome));
    std::cout << info.labels[outcome.class_index] << ' ' << info.exit_layers[outcome.exit] << ' '
              << (outcome.route == SPLITEE_ROUTE_OFFLOAD ? "sent" : "here") << '\n';
  }
}

}  // namespace

int main(int argc, char** argv) try { run(argc, argv); } catch (const std::exception& problem) {
  std::cerr << problem.what() << '\n';
  return 1;
}
