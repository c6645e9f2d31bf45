// The client's decisions over a network that is a list of what was sent.
#include "transport/client/client_core.h"

#include <algorithm>
#include <vector>

#include <doctest/doctest.h>

using namespace splitee;
using namespace splitee::transport;

namespace {

constexpr std::uint64_t kHash = 7;

class Sent : public Connections {
 public:
  explicit Sent(std::size_t links) : ids(links) {}
  void open(std::size_t) override {}
  void close(std::size_t) override {}
  bool send(std::size_t link, Frames frames) override {
    const std::span<const std::byte> parts[] = {frames.header, frames.payload.bytes()};
    ids[link].push_back(decode(parts)->envelope.request_id);
    return true;
  }
  std::vector<std::vector<std::uint64_t>> ids;  // of the messages, per link
};

class Bench {
 public:
  Bench() : network(2), core(options(), network) {
    core.tick(0);
    for (std::size_t link = 0; link < 2; ++link) {
      receive(link,
              encode(envelope(network.ids[link].back()), Welcome{kAllCapabilities, 8, 4, 1, 2, 4}));
    }
  }
  static ClientOptions options() {
    ClientOptions made;
    made.endpoints = {"a", "b"};
    made.model_hash = kHash;
    made.classes = 2;
    made.seed = 1;
    return made;
  }
  static Envelope envelope(std::uint64_t id) { return {id, kHash, 0}; }
  void receive(std::size_t link, const Frames& frames) {
    const std::span<const std::byte> parts[] = {frames.header, frames.payload.bytes()};
    core.receive(link, parts, 1'000);
  }
  void reply(std::size_t link, std::uint64_t id, float confidence) {
    Reply body;
    body.confidence = confidence;
    body.probabilities = {confidence, 1 - confidence};
    receive(link, encode(envelope(id), body));
  }

  Sent network;
  ClientCore core;
};

}  // namespace

TEST_CASE("an answer counts only on the link that its request went out on") {
  Bench bench;
  const std::vector<float> values = {1, 2, 3};
  OffloadRequest request;
  request.layer = 1;
  request.shape = {1, 3};
  request.activation = values;
  const RequestId request_id = bench.core.submit(request, 1'000'000, 500);
  REQUIRE(bench.network.ids[0].size() == 2);
  const std::uint64_t id = bench.network.ids[0].back();
  bench.reply(1, id, 0.9f);
  CHECK_FALSE(bench.core.take(request_id));
  CHECK(bench.core.counters().replies == 0);
  bench.reply(0, id, 0.75f);
  const auto outcome = bench.core.take(request_id);
  REQUIRE(outcome);
  CHECK(outcome->kind == OffloadOutcome::Kind::kReply);
  CHECK(outcome->reply.confidence == 0.75f);
  // A second answer is one too many.
  bench.reply(0, id, 0.8f);
  CHECK_FALSE(bench.core.take_oldest());
}

namespace {

// Connections that never come to be.
class Unreachable : public Connections {
 public:
  void open(std::size_t) override { ++opened; }
  void close(std::size_t) override {}
  bool send(std::size_t, Frames) override { return false; }
  int opened = 0;
};

// The waits between `count` attempts that all fail at once.
std::vector<std::int64_t> waits_us(bool refused, std::size_t count, std::uint64_t seed) {
  ClientOptions options = Bench::options();
  options.endpoints = {"a"};
  options.seed = seed;
  Unreachable network;
  ClientCore core(options, network);
  std::vector<std::int64_t> waits;
  std::int64_t now_us = 0;
  core.tick(now_us);
  while (waits.size() < count) {
    core.connect_failed(0, "no", refused, now_us);
    const std::int64_t next_us = core.next_event_us();
    waits.push_back(next_us - now_us);
    now_us = next_us;
    core.tick(now_us);
  }
  CHECK(network.opened == static_cast<int>(count) + 1);
  CHECK(core.last_problem() == "a: no");
  return waits;
}

}  // namespace

TEST_CASE(
    "attempts to connect become rarer, sooner where keys do not fit, and edges do not agree") {
  for (const bool refused : {false, true}) {
    CAPTURE(refused);
    const std::vector<std::int64_t> waits = waits_us(refused, 12, 1);
    const std::int64_t most_us = refused ? 4'000'000 : 1'000'000;
    std::int64_t base_us = 100'000;
    for (const std::int64_t wait_us : waits) {
      CHECK(wait_us >= base_us / 2);
      CHECK(wait_us <= base_us);
      base_us = std::min(most_us, 2 * base_us);
    }
    CHECK(base_us == most_us);
    CHECK(waits != waits_us(refused, 12, 2));
  }
}

TEST_CASE("what a server refuses goes to another one, but not what every server would refuse") {
  struct Case {
    RefuseCode code;
    bool elsewhere;
  };
  for (const Case c :
       {Case{RefuseCode::kBusy, true}, Case{RefuseCode::kBadRequest, false},
        Case{RefuseCode::kWrongModel, true}, Case{RefuseCode::kExpired, false},
        Case{RefuseCode::kShuttingDown, true}, Case{RefuseCode::kUnsupportedVersion, true},
        Case{RefuseCode::kNoSession, true}, Case{RefuseCode::kInternal, true}}) {
    CAPTURE(to_string(c.code));
    Bench bench;
    const std::vector<float> values = {1, 2, 3};
    OffloadRequest request;
    request.layer = 1;
    request.shape = {1, values.size()};
    request.activation = values;
    const RequestId request_id = bench.core.submit(request, 1'000'000, 500);
    bench.receive(0, encode(Bench::envelope(bench.network.ids[0].back()), Refusal{c.code, "no"}));
    const auto outcome = bench.core.take(request_id);
    REQUIRE(outcome);
    CHECK(outcome->kind == OffloadOutcome::Kind::kRefused);
    CHECK(outcome->retryable == c.elsewhere);
    const std::size_t before = bench.network.ids[1].size();
    CHECK(bench.core.retry(request, *outcome, 1'000'000, 600).has_value() == c.elsewhere);
    CHECK(bench.network.ids[1].size() == before + (c.elsewhere ? 1 : 0));
  }
}
