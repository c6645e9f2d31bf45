// The client's decisions over a network that is a list of what was sent.
#include "transport/client_core.h"

#include <vector>

#include <doctest/doctest.h>

using namespace splitee::transport;

namespace {

constexpr std::uint64_t kHash = 7;

class Sent : public Network {
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
              encode(envelope(network.ids[link].back()), Welcome{kAllCapabilities, 8, 4, 3, 2, 4}));
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
  request.tokens = 1;
  request.activation = values;
  const Client::Ticket ticket = bench.core.submit(request, 1'000'000, 500);
  REQUIRE(bench.network.ids[0].size() == 2);
  const std::uint64_t id = bench.network.ids[0].back();
  bench.reply(1, id, 0.9f);
  CHECK_FALSE(bench.core.take(ticket));
  CHECK(bench.core.counters().replies == 0);
  bench.reply(0, id, 0.75f);
  const auto outcome = bench.core.take(ticket);
  REQUIRE(outcome);
  CHECK(outcome->kind == OffloadOutcome::Kind::kReply);
  CHECK(outcome->reply.confidence == 0.75f);
  // A second answer is one too many.
  bench.reply(0, id, 0.8f);
  CHECK_FALSE(bench.core.take_oldest());
}
