// Small random networks of the kinds that are built in, for tests of what does not care which it
// is.
#pragma once

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "runtime/loader/loader.h"
#include "tests/runtime/model_builder.h"

namespace splitee::runtime::testing {

inline std::shared_ptr<const Network> network_of(const FileSpec& spec) {
  const auto network =
      network_from_bytes("test", as_bytes(build(spec)), *kernels::find_target("scalar"));
  REQUIRE_MESSAGE(network.ok(), network.status().message());
  return *network;
}

// One of each kind, with four layers, an exit behind each, and three classes.
inline std::vector<std::shared_ptr<const Network>> every_network() {
  std::vector<std::shared_ptr<const Network>> all;
#ifdef SPLITEE_NETWORK_TEXT
  all.push_back(network_of(random_model({.layers = 4,
                                         .hidden = 36,
                                         .heads = 3,
                                         .ffn = 70,
                                         .positions = 24,
                                         .classes = 3,
                                         .exit_layers = {1, 2, 3, 4},
                                         .seed = 5})));
#endif
#ifdef SPLITEE_NETWORK_NUMBERS
  all.push_back(network_of(random_numbers({.features = 5,
                                           .widths = {36, 36, 20, 9},
                                           .residual = {0, 1, 0, 0},
                                           .classes = 3,
                                           .exit_layers = {1, 2, 3, 4},
                                           .seed = 5})));
#endif
#ifdef SPLITEE_NETWORK_IMAGES
  all.push_back(network_of(random_conv({.channels = {8, 8, 12, 9},
                                        .strides = {1, 1, 2, 1},
                                        .exit_layers = {1, 2, 3, 4},
                                        .exit_channels = {0, 0, 10, 0},
                                        .classes = 3,
                                        .seed = 5})));
#endif
  return all;
}

inline std::shared_ptr<const Network> any_network() {
  return every_network().front();
}

// The `number`th of several inputs, some of them longer than others where lengths differ.
inline Input any_input(const Network& network, std::size_t number) {
  Input input;
  input.kind = network.info().input;
  if (input.kind == InputKind::kText) {
    // The random model knows no words: each is [UNK], and the count is what differs.
    for (std::size_t i = 0; i <= number % 5; ++i) input.bytes += "x ";
    return input;
  }
  if (input.kind == InputKind::kImage) {
    const Prepared image = network.random_input(1, number);
    input.bytes.assign(reinterpret_cast<const char*>(image.bytes.data()), image.bytes.size());
    return input;
  }
  std::mt19937 random(static_cast<std::uint32_t>(number));
  std::normal_distribution<float> normal;
  for (std::size_t i = 0; i < network.info().numbers; ++i) {
    const float value = normal(random);
    input.bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  return input;
}

}  // namespace splitee::runtime::testing
