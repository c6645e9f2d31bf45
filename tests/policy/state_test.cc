#include "policy/state.h"

#include <cstring>
#include <string>

#include <doctest/doctest.h>

#include "policy/episode.h"
#include "tests/policy/planted.h"

namespace splitee::policy {
namespace {

struct Network {
  Rng& rng;
  ExitReading evaluate(std::size_t) const {
    return {.confidence = static_cast<float>(0.5 + 0.5 * rng.uniform()),
            .prediction = rng.below(2),
            .classes = 2,
            .probabilities = {}};
  }
  std::optional<float> offload(std::size_t) const {
    return static_cast<float>(0.5 + 0.5 * rng.uniform());
  }
};

std::string run(Policy& policy, const PolicyOptions& options, std::size_t samples, Rng& rng) {
  EpisodeRunner session(policy, options);
  std::string text;
  for (std::size_t i = 0; i < samples; ++i) {
    constexpr LinkState kLinks[] = {LinkState::kUp, LinkState::kUp, LinkState::kNone,
                                    LinkState::kDown};
    text += std::to_string(session.run(kLinks[rng.below(4)], Network{rng}).plan.arm) + " ";
  }
  return text;
}

std::unique_ptr<Policy> make(std::string_view name, const PolicyOptions& options) {
  auto policy = make_policy(name, options);
  REQUIRE(policy.ok());
  return std::move(*policy);
}

TEST_CASE("a restored policy goes on bit for bit") {
  PolicyOptions options = options_for(7);
  options.window = 50;
  for (const std::string_view name : policy_names()) {
    CAPTURE(std::string(name));
    for (const std::size_t learned : {0u, 1u, 2u, 3u, 4u, 5u, 400u, 3000u}) {
      Rng rng(kTestSeed);
      const auto first = make(name, options);
      (void)run(*first, options, learned, rng);
      const std::string state = first->save_state();
      options.seed += 1;  // the generator's state comes from the file, not from the seed
      const auto second = make(name, options);
      options.seed -= 1;
      REQUIRE(second->load_state(state).ok());
      CHECK(second->save_state() == state);
      Rng rng_again = rng;
      CHECK(run(*first, options, 400, rng) == run(*second, options, 400, rng_again));
      CHECK(first->save_state() == second->save_state());
    }
  }
}

TEST_CASE("damaged states are refused and leave the policy alone") {
  PolicyOptions options = options_for(5);
  options.window = 10;
  for (const std::string_view name : policy_names()) {
    CAPTURE(std::string(name));
    Rng rng(kTestSeed);
    const auto policy = make(name, options);
    (void)run(*policy, options, 100, rng);
    const std::string good = policy->save_state();
    (void)run(*policy, options, 10, rng);
    const std::string now = policy->save_state();
    for (std::size_t byte = 0; byte < good.size(); ++byte) {
      std::string bad = good;
      bad[byte] = static_cast<char>(bad[byte] ^ 0x10);
      CAPTURE(byte);
      REQUIRE(!policy->load_state(bad).ok());
      REQUIRE(!policy->load_state(std::string_view(good).substr(0, byte)).ok());
    }
    CHECK(!policy->load_state(good + "x").ok());
    CHECK(policy->save_state() == now);
  }
}

// A state with a true checksum but other contents.
std::string forged(const Policy& policy, const PolicyOptions& options, std::string body) {
  return seal_state(state_header(policy.name(), options), body);
}

TEST_CASE("numbers out of range are refused even under a true checksum") {
  const PolicyOptions options = options_for(5);
  Rng rng(kTestSeed);
  const auto policy = make("splitee", options);
  (void)run(*policy, options, 100, rng);
  const std::string now = policy->save_state();
  const std::size_t header = state_header("splitee", options).size();
  const std::string body = now.substr(header, now.size() - header - 8);
  REQUIRE(policy->load_state(forged(*policy, options, body)).ok());
  const auto with = [&](std::size_t field, double value) {
    std::string changed = body;
    changed[8] = static_cast<char>(changed[8] ^ 1);  // another sum of arm 0, read before the fault
    const auto bits = std::bit_cast<std::uint64_t>(value);
    for (std::size_t i = 0; i < 8; ++i) {
      changed[8 * field + i] = static_cast<char>(static_cast<unsigned char>(bits >> (8 * i)));
    }
    return forged(*policy, options, changed);
  };
  const auto refuses = [&](const std::string& state) {
    CHECK(!policy->load_state(state).ok());
    CHECK(policy->save_state() == now);
  };
  // Fields: rejected, 5 sums, 5 counts, rounds, next arm.
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  REQUIRE(policy->load_state(with(1, -3.0)).ok());
  REQUIRE(policy->load_state(now).ok());
  for (const std::size_t field : {1u, 5u, 6u, 10u, 11u}) {
    CAPTURE(field);
    refuses(with(field, nan));
    refuses(with(field, infinity));
  }
  refuses(with(6, -1.0));
  refuses(with(11, -1.0));
  refuses(with(12, 5.0));  // an arm that is none
  refuses(forged(*policy, options, body.substr(0, body.size() - 8)));
  refuses(forged(*policy, options, body + std::string(8, '\0')));
}

// The place of a policy's rounds in its body, in numbers: behind its sums per arm.
std::size_t rounds_place(std::string_view name, std::size_t arms) {
  return name == "splitee" ? 1 + 2 * arms : 1 + 6 * arms + 2;
}

TEST_CASE("rounds that do not fit the observations are refused, whatever the number of arms") {
  for (const std::size_t arms : {3u, 5u, 12u, 13u}) {
    for (const std::string name : {"splitee", "splitee-s"}) {
      CAPTURE(name);
      CAPTURE(arms);
      const PolicyOptions options = options_for(arms);
      Rng rng(kTestSeed);
      const auto policy = make(name, options);
      (void)run(*policy, options, 200, rng);
      const std::string now = policy->save_state();
      const std::size_t header = state_header(name, options).size();
      const std::string body = now.substr(header, now.size() - header - 8);
      const std::size_t place = 8 * rounds_place(name, arms);
      double rounds = 0;
      std::memcpy(&rounds, body.data() + place, 8);
      REQUIRE(rounds > 100);
      REQUIRE(rounds <= 200);
      for (const double bad : {0.0, 0.5, 1.0, 1.5, rounds + 0.5, 0x1p53 + 2, 1e300}) {
        CAPTURE(bad);
        std::string changed = body;
        std::memcpy(changed.data() + place, &bad, 8);
        CHECK(!policy->load_state(forged(*policy, options, changed)).ok());
        CHECK(policy->save_state() == now);
      }
      (void)run(*policy, options, 50, rng);
    }
  }
}

TEST_CASE("states of other settings are refused with the reason") {
  struct Case {
    std::string word;
    void (*change)(PolicyOptions&);
  };
  const Case cases[] = {
      {"arms",
       [](PolicyOptions& o) {
         o.layer_of = {1, 2, 3, 4, 6};
       }},
      {"arms",
       [](PolicyOptions& o) {
         o.layer_of = {1, 2, 3, 4};
       }},
      {"another model (hash 0000000000000000) than this run's (00000000000000ab)",
       [](PolicyOptions& o) { o.model_hash = 0xab; }},
      {"alpha", [](PolicyOptions& o) { o.alpha = 0.81; }},
      {"alpha per exit",
       [](PolicyOptions& o) {
         o.exit_alphas = {0.8, 0.8, 0.8, 0.8, 0.8};
       }},
      {"exploration", [](PolicyOptions& o) { o.exploration = 0.5; }},
      {"discount", [](PolicyOptions& o) { o.discount = 0.9; }},
      {"window", [](PolicyOptions& o) { o.window = 7; }},
      {"change threshold", [](PolicyOptions& o) { o.change_threshold = 7; }},
      {"mu", [](PolicyOptions& o) { o.costs.mu = 0.5; }},
      {"lambda1", [](PolicyOptions& o) { o.costs.lambda1 = 0.2; }},
      {"lambda2", [](PolicyOptions& o) { o.costs.lambda2 = 0.2; }},
      {"offload", [](PolicyOptions& o) { o.costs.offload = 0.2; }},
  };
  const auto source = make("splitee", options_for(5));
  for (const Case& c : cases) {
    PolicyOptions options = options_for(5);
    c.change(options);
    const auto target = make("splitee", options);
    const std::string before = target->save_state();
    const Status status = target->load_state(source->save_state());
    REQUIRE(!status.ok());
    CAPTURE(status.message());
    CHECK(status.code() == Code::kUnsupported);
    CHECK(status.message().find(c.word) != std::string::npos);
    CHECK(target->save_state() == before);
  }
  const Status other = make("splitee-s", options_for(5))->load_state(source->save_state());
  CHECK(other.message().find("policy") != std::string::npos);
  CHECK(!other.ok());
}

TEST_CASE("what was learned apart from costs is good under others") {
  PolicyOptions options = options_for(5);
  Rng rng(kTestSeed);
  const PolicyOptions before = options;
  for (const std::string name : {"factored", "factored-alpha"}) {
    options = before;
    const auto source = make(name, options);
    (void)run(*source, options, 100, rng);
    options.costs = {.lambda1 = 0.2, .lambda2 = 0.1, .offload = 0.05, .mu = 0.5};
    const auto target = make(name, options);
    CHECK(target->load_state(source->save_state()).ok());
    options.alpha = 0.5;
    CHECK(!make(name, options)->load_state(source->save_state()).ok());
  }
}

TEST_CASE("a state names the costs under which it was saved") {
  const PolicyOptions options = options_for(5);
  Rng rng(kTestSeed);
  const auto source = make("splitee", options);
  (void)run(*source, options, 100, rng);
  CostModel dear = options.costs;
  dear.offload = 0.9;
  REQUIRE(source->set_costs(dear).ok());
  const std::string state = source->save_state();
  const auto target = make("splitee", options);
  const Status refused = target->load_state(state);
  REQUIRE(!refused.ok());
  CHECK(refused.message().find("offload cost") != std::string::npos);
  REQUIRE(target->set_costs(dear).ok());
  CHECK(target->load_state(state).ok());
  CHECK(target->save_state() == state);
  CHECK(source->load_state(state).ok());
}

TEST_CASE("a state of another version is refused with the reason") {
  const auto policy = make("splitee", options_for(5));
  const std::string state = policy->save_state();
  for (const char version : {0, 4, 5, 7}) {
    std::string other = state.substr(0, state.size() - 8);
    other[8] = version;
    other = seal_state(other, "");  // whole, but for the version
    const Status status = policy->load_state(other);
    REQUIRE(!status.ok());
    CHECK(status.code() == Code::kUnsupported);
    CHECK(status.message().find("version " + std::to_string(version)) != std::string::npos);
    CHECK(status.message().find("reads version 6") != std::string::npos);
  }
}

TEST_CASE("every flipped bit of a state is found") {
  PolicyOptions options = options_for(3);
  options.window = 4;
  for (const std::string_view name : policy_names()) {
    CAPTURE(std::string(name));
    const auto policy = make(name, options);
    Rng rng(kTestSeed);
    (void)run(*policy, options, 20, rng);
    const std::string good = policy->save_state();
    for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
      std::string bad = good;
      bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
      if (policy->load_state(bad).ok())
        FAIL_CHECK("bit " << bit << " changes nothing that is checked");
    }
    CHECK(policy->save_state() == good);
  }
}

TEST_CASE("outcomes of samples planned before a restore are refused") {
  const PolicyOptions options = options_for(3);
  const auto policy = make("splitee", options);
  std::vector<float> confidence(3, 0.9f);
  Outcome outcome;
  outcome.plan = policy->plan(LinkState::kUp);
  outcome.confidence = confidence;
  outcome.answer_confidence = 0.9f;
  REQUIRE(policy->load_state(policy->save_state()).ok());
  policy->observe(outcome);
  CHECK(policy->rejected() == 1);
}

TEST_CASE("the header's bytes are as documented") {
  PolicyOptions options = options_for(2);
  options.alpha = 0.75;
  options.exit_alphas = {0.5, 0.75};
  options.model_hash = 0x0807060504030201;
  const std::string header = state_header("fixed", options);
  CHECK(header.size() == 8 + 4 + 4 + 5 + 8 + 4 + 2 * 8 + 4 + 2 * 8 + 9 * 8 + 3 * 8);
  CHECK(header.substr(0, 8) == std::string("SPLITEE\0", 8));
  CHECK(header.substr(8, 8) == std::string("\6\0\0\0\5\0\0\0", 8));
  CHECK(header.substr(16, 5) == "fixed");
  CHECK(header.substr(21, 8) == "\1\2\3\4\5\6\7\b");
  CHECK(header.substr(29, 12) == std::string("\2\0\0\0\1\0\0\0\0\0\0\0", 12));
  CHECK(header.substr(49, 4) == std::string("\2\0\0\0", 4));
  for (const std::size_t at : {61u, 69u}) {  // alpha per exit: the second; then alpha
    CHECK(header.substr(at, 8) == std::string("\0\0\0\0\0\0\xe8\x3f", 8));  // 0.75
  }
}

}  // namespace
}  // namespace splitee::policy
