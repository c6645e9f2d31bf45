// The reader of states, of every policy: a small state cut off at every byte, and with every byte
// changed, under a checksum that fits, as by somebody who knows the format. It is refused without a
// trace, or taken as a whole: then it can be saved and taken again, and decisions go on.
// By default every byte gets ten other values, with SPLITEE_FULL all 255.
#include <array>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "base/hash.h"
#include "base/rng.h"
#include "policy/episode.h"

namespace splitee::policy {
namespace {

constexpr std::size_t kHashBytes = 8;

PolicyOptions small_options() {
  PolicyOptions options;
  options.layer_of = {1, 2};
  options.window = 4;
  options.seed = 5;
  return options;
}

std::unique_ptr<Policy> make(std::string_view name) {
  auto policy = make_policy(name, small_options());
  REQUIRE(policy.ok());
  return std::move(*policy);
}

struct Network {
  Rng& rng;
  std::array<float, 2> probabilities{};
  ExitReading evaluate(std::size_t) {
    const auto first = static_cast<float>(rng.uniform());
    probabilities = {first, 1 - first};
    return read_exit(probabilities);
  }
  std::optional<ServerReply> offload(std::size_t) { return ServerReply(0.75f, 1); }
};

void work(Policy& policy, std::size_t samples) {
  const PolicyOptions options = small_options();
  EpisodeRunner runner(policy, options);
  Rng rng(7);
  constexpr LinkState kLinks[] = {LinkState::kUp, LinkState::kNone, LinkState::kDown};
  for (std::size_t i = 0; i < samples; ++i) {
    const Outcome& outcome = runner.run(kLinks[rng.below(3)], Network{rng});
    if (outcome.exit_arm >= options.arms() || !std::isfinite(outcome.cost)) FAIL("no outcome");
  }
}

std::string sealed(std::string content) {
  const std::uint64_t hash = content_hash(std::as_bytes(std::span(content)));
  for (std::size_t i = 0; i < kHashBytes; ++i) content += static_cast<char>(hash >> (8 * i));
  return content;
}

// Whether `bytes` were taken; what happens then, or else, is checked.
bool taken(std::string_view name, const std::string& fresh, const std::string& bytes) {
  const auto policy = make(name);
  if (!policy->load_state(bytes).ok()) {
    if (policy->save_state() != fresh) FAIL("a refused state left a trace");
    return false;
  }
  const std::string saved = policy->save_state();
  const auto next = make(name);
  if (!next->load_state(saved).ok()) FAIL("a state that was taken is saved as a bad one");
  if (next->save_state() != saved) FAIL("a state that was taken is not the one saved");
  work(*policy, 3);
  return true;
}

// Of a new policy, and of one that has worked.
std::pair<std::string, std::string> states_of(std::string_view name) {
  const auto policy = make(name);
  std::string fresh = policy->save_state();
  work(*policy, 6);
  return {std::move(fresh), policy->save_state()};
}

std::vector<unsigned char> changes_of(unsigned char byte, bool all) {
  std::vector<unsigned char> values;
  for (unsigned value = 0; value < 256; ++value) {
    const auto flipped = value ^ byte;
    const bool few = value == 0 || value == 255 || (flipped & (flipped - 1)) == 0;
    if (value != byte && (all || few)) values.push_back(static_cast<unsigned char>(value));
  }
  return values;
}

}  // namespace

TEST_CASE("exhaustive: a state cut off at every byte is refused, whatever its checksum") {
  for (const std::string_view name : policy_names()) {
    CAPTURE(std::string(name));
    const auto [fresh, state] = states_of(name);
    REQUIRE(taken(name, fresh, state));
    const std::string content = state.substr(0, state.size() - kHashBytes);
    REQUIRE(sealed(content) == state);
    for (std::size_t length = 0; length < content.size(); ++length) {
      if (taken(name, fresh, sealed(content.substr(0, length)))) FAIL("taken at ", length);
    }
    for (std::size_t length = 0; length < state.size(); ++length) {
      if (taken(name, fresh, state.substr(0, length))) FAIL("taken at ", length);
    }
    // Nor may anything stand behind it.
    CHECK(!taken(name, fresh, sealed(content + std::string(1, '\0'))));
    CHECK(!taken(name, fresh, sealed(content + content)));
  }
}

TEST_CASE("exhaustive: every byte of a state changed, under a checksum that fits") {
  const bool all = std::getenv("SPLITEE_FULL") != nullptr;
  for (const std::string_view name : policy_names()) {
    CAPTURE(std::string(name));
    const auto [fresh, state] = states_of(name);
    std::string content = state.substr(0, state.size() - kHashBytes);
    std::size_t refused = 0;
    for (std::size_t at = 0; at < content.size(); ++at) {
      CAPTURE(at);
      const char own = content[at];
      for (const unsigned char value : changes_of(static_cast<unsigned char>(own), all)) {
        content[at] = static_cast<char>(value);
        refused += taken(name, fresh, sealed(content)) ? 0 : 1;
      }
      content[at] = own;
    }
    // The options before the numbers must be the policy's own.
    CHECK(refused > 200);
  }
}

}  // namespace splitee::policy
