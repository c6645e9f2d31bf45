// Networks of any kind from the files that tests describe. Thread rule: as doctest.
#pragma once

#include <memory>
#include <string>

#include <doctest/doctest.h>

#include "runtime/loader/loader.h"
#include "tests/runtime/model_builder.h"

namespace splitee::runtime::testing {

inline const kernels::Kernels& scalar() {
  return *kernels::find_target("scalar");
}

inline std::shared_ptr<const Network> load(const FileSpec& spec,
                                           const kernels::Kernels& kernels = scalar()) {
  const auto network = network_from_bytes("N", as_bytes(build(spec)), kernels);
  REQUIRE_MESSAGE(network.ok(), network.status().message());
  return *network;
}

// What is wrong with it; empty where nothing is.
inline std::string problem(const FileSpec& spec) {
  return network_from_bytes("N", as_bytes(build(spec)), scalar()).status().message();
}

}  // namespace splitee::runtime::testing
