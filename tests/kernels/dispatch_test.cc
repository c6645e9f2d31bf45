#include <algorithm>
#include <cstdlib>
#include <set>

#include "tests/kernels/support.h"

namespace splitee::kernels::testing {
namespace {

TEST_CASE("targets: known words, each once, scalar last and always there") {
  const auto targets = compiled_targets();
  REQUIRE(!targets.empty());
  CHECK(std::string(targets.back()->target) == "scalar");
  CHECK(supported(*targets.back()));
  std::set<std::string> names;
  const std::set<std::string> known = {"scalar",   "sse4.2",       "avx2",       "avx512",
                                       "avx2vnni", "avx512vnni",   "avx512bf16", "avx512amx",
                                       "neon",     "neon-dotprod", "neon-i8mm",  "wasm-simd128"};
  for (const Kernels* kernels : targets) {
    CHECK(names.insert(kernels->target).second);
    CHECK(known.count(kernels->target) == 1);
    const bool here = supported(*kernels);
    const auto tested = tested_targets();
    const bool trapped = !here && std::find(tested.begin(), tested.end(), kernels) != tested.end();
    const std::string note = here      ? ": tested"
                             : trapped ? ": tested on a model of its instructions"
                                       : ": skipped in every test, this CPU lacks it";
    MESSAGE(std::string(kernels->target) << note);
  }
}

TEST_CASE("targets: by name where the CPU has it, the best one without a name") {
  const Kernels* best = nullptr;
  for (const Kernels* kernels : compiled_targets()) {
    if (best == nullptr && supported(*kernels)) best = kernels;
    CHECK(find_target(kernels->target) == (supported(*kernels) ? kernels : nullptr));
  }
  CHECK(find_target("") == best);
  CHECK(find_target("avx1024") == nullptr);
  CHECK(find_target("Scalar") == nullptr);
}

TEST_CASE("targets: what was never run on its hardware is behind all that any CPU with it has") {
  const auto targets = compiled_targets();
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (std::string(targets[i]->target) == "avx512amx") CHECK(i == targets.size() - 2);
  }
}

TEST_CASE("targets: the environment's word") {
  REQUIRE(setenv("SPLITEE_TARGET", "sse4.2", 1) == 0);
  CHECK(std::string(target_from_environment()) == "sse4.2");
  REQUIRE(unsetenv("SPLITEE_TARGET") == 0);
  CHECK(target_from_environment().empty());
}

}  // namespace
}  // namespace splitee::kernels::testing
