// The server against good clients, over real sockets.
#include "transport/server/server.h"

#include <atomic>
#include <map>
#include <stdexcept>
#include <string>

#include <doctest/doctest.h>

#include "tests/transport/server_peers.h"

namespace splitee::transport {

using namespace testing;

TEST_CASE("each edge gets the answers to its own samples") {
  ServerOptions options = server_options();
  options.threads = 2;
  RunningServer server(options);
  std::vector<std::thread> edges;
  std::atomic<int> good{0};
  for (int edge = 0; edge < 4; ++edge) {
    edges.emplace_back([&, edge] {
      auto client = Client::create(client_options({server.endpoint()}));
      if (!client.ok() || !(*client)->wait_available(kPatienceUs)) return;
      for (int i = 0; i < 100; ++i) {
        const float first = static_cast<float>(edge * 100 + i);
        const OffloadOutcome outcome = (*client)->offload(Sample(first).request(), kPatienceUs);
        good += outcome.kind == Kind::kReply &&
                outcome.reply.probabilities == expected_probabilities(first);
      }
    });
  }
  for (std::thread& edge : edges) edge.join();
  CHECK(good == 400);
  CHECK(server.counters().replies == 400);
  CHECK(server.counters().requests == 400);
  CHECK(server.counters().refusals == 0);
  CHECK(server.counters().sessions == 4);
}

TEST_CASE("a window of requests keeps every answer with its question") {
  ServerOptions options = server_options();
  options.threads = 3;
  RunningServer server(options);
  ClientOptions own = client_options({server.endpoint()});
  own.window = 8;
  const auto client = make_client(own);
  REQUIRE(client->wait_available(kPatienceUs));
  std::map<RequestId, float> asked;
  int answered = 0;
  for (int i = 0; i < 400; ++i) {
    while (!client->available()) {
      const auto completion = client->poll(kPatienceUs);
      REQUIRE(completion);
      REQUIRE(kind_of(completion->outcome) == "reply");
      CHECK(completion->outcome.reply.probabilities ==
            expected_probabilities(asked.at(completion->request_id)));
      ++answered;
    }
    const float first = static_cast<float>(i);
    asked[client->submit(Sample(first, 1 + i % 16).request(), kPatienceUs)] = first;
  }
  while (const auto completion = client->poll(kPatienceUs)) {
    CHECK(completion->outcome.reply.probabilities ==
          expected_probabilities(asked.at(completion->request_id)));
    ++answered;
  }
  CHECK(answered == 400);
}

TEST_CASE("an input is taken in place of an activation") {
  RunningServer server(server_options());
  RawEdge edge(server.endpoint());
  REQUIRE(edge.greet());
  edge.send(input_frames(edge.next(), {77, 5, 6}));
  const auto message = edge.receive_message();
  REQUIRE(message);
  REQUIRE(std::holds_alternative<Reply>(message->body));
  CHECK(std::get<Reply>(message->body).probabilities == expected_probabilities(77));
}

TEST_CASE("the session idle longest makes room for a new one") {
  ServerOptions options = server_options();
  options.max_sessions = 2;
  RunningServer server(options);
  RawEdge a(server.endpoint()), b(server.endpoint()), c(server.endpoint());
  REQUIRE(a.greet());
  REQUIRE(b.greet());
  a.send(infer_frames(a.next()));
  CHECK(std::holds_alternative<Reply>(a.receive_message()->body));
  REQUIRE(c.greet());
  CHECK(server.counters().sessions == 2);
  b.send(infer_frames(b.next()));
  CHECK(name_of(b.receive_refusal()) == "no session");
  a.send(infer_frames(a.next()));
  CHECK(std::holds_alternative<Reply>(a.receive_message()->body));
}

TEST_CASE("beyond the queue requests are refused as busy") {
  Gate gate;
  ServerOptions options = server_options();
  options.max_queue = 2;
  options.max_batch = 1;
  SUBCASE("by number") {}
  SUBCASE("by bytes") {
    options.max_queue = 100;
    options.max_queue_bytes = 2 * 16 * 8 * 4;
  }
  RunningServer server(options, fake_backend([&] { gate.pass(); }));
  const auto longest = [](RawEdge& from) { return infer_frames(from.next(), 1, 16); };
  RawEdge edge(server.endpoint());
  REQUIRE(edge.greet(16));
  edge.send(longest(edge));
  REQUIRE(gate.wait_for(1));
  for (int i = 0; i < 5; ++i) edge.send(longest(edge));
  for (int i = 0; i < 3; ++i) CHECK(name_of(edge.receive_refusal()) == "busy");
  CHECK(server.counters().busy == 3);
  CHECK(server.counters().queued == 2);
  gate.open();
  for (int i = 0; i < 3; ++i) {
    CHECK(std::holds_alternative<Reply>(edge.receive_message()->body));
  }
}

TEST_CASE("an edge has no more in flight than its window") {
  Gate gate;
  ServerOptions options = server_options();
  options.max_window = 2;
  RunningServer server(options, fake_backend([&] { gate.pass(); }));
  RawEdge edge(server.endpoint());
  REQUIRE(edge.greet(16));
  for (int i = 0; i < 3; ++i) edge.send(infer_frames(edge.next()));
  CHECK(name_of(edge.receive_refusal()) == "busy");
  CHECK(contains(edge.last_text(), "window"));
  gate.open();
  for (int i = 0; i < 2; ++i) {
    CHECK(std::holds_alternative<Reply>(edge.receive_message()->body));
  }
}

TEST_CASE("requests past their deadline are not run") {
  Gate gate;
  std::atomic<int> runs{0};
  ServerOptions options = server_options();
  options.max_queue = 2;
  RunningServer server(options, fake_backend([&] {
                         ++runs;
                         gate.pass();
                       }));
  RawEdge edge(server.endpoint());
  REQUIRE(edge.greet(16));
  edge.send(infer_frames(edge.next()));
  REQUIRE(gate.wait_for(1));
  const auto expiring = [&] { return infer_frames(edge.next(), 1, 2, 8, 0.5f, 20'000); };
  edge.send(expiring());
  edge.send(expiring());
  REQUIRE(eventually([&] { return server.counters().queued == 2; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  SUBCASE("found by the worker") {
    gate.open();
    CHECK(std::holds_alternative<Reply>(edge.receive_message()->body));
    for (int i = 0; i < 2; ++i) CHECK(name_of(edge.receive_refusal()) == "expired");
    CHECK(runs == 1);
  }
  SUBCASE("making room in a full queue") {
    edge.send(infer_frames(edge.next()));
    for (int i = 0; i < 2; ++i) CHECK(name_of(edge.receive_refusal()) == "expired");
    gate.open();
    for (int i = 0; i < 2; ++i) {
      CHECK(std::holds_alternative<Reply>(edge.receive_message()->body));
    }
    CHECK(runs == 2);
  }
  CHECK(server.counters().expired == 2);
}

TEST_CASE("a request that was stuck on the way is not run, without a common clock") {
  RunningServer server(server_options());
  RawEdge edge(server.endpoint());
  // The edge's clock starts anywhere.
  const std::uint64_t start = ~std::uint64_t{0} - 1'000;
  const auto send_at = [&](std::uint64_t clock_us) {
    Envelope envelope = edge.next();
    envelope.clock_us = clock_us;
    edge.send(infer_frames(envelope, 1, 2, 8, 0.5f, 10'000'000));
  };
  edge.send(encode({edge.next().request_id, kModelHash, start},
                   Hello{kProtocolVersion, kProtocolVersion, 2, 4}));
  REQUIRE(std::holds_alternative<Welcome>(edge.receive_message()->body));
  send_at(start + 1'000);
  CHECK(std::holds_alternative<Reply>(edge.receive_message()->body));
  // Sent, by its own clock, 60 s before the hello: it has been waiting somewhere.
  send_at(start - 60'000'000);
  CHECK(name_of(edge.receive_refusal()) == "expired");
  send_at(start + 2'000);
  CHECK(std::holds_alternative<Reply>(edge.receive_message()->body));
}

TEST_CASE("a backend that throws is an internal error of one request") {
  std::atomic<int> runs{0};
  RunningServer server(server_options(), fake_backend([&] {
                         if (runs++ == 0) throw std::runtime_error("0x1234");
                       }));
  RawEdge edge(server.endpoint());
  REQUIRE(edge.greet());
  edge.send(infer_frames(edge.next()));
  CHECK(name_of(edge.receive_refusal()) == "internal error");
  CHECK_FALSE(contains(edge.last_text(), "0x"));
  edge.send(infer_frames(edge.next()));
  CHECK(std::holds_alternative<Reply>(edge.receive_message()->body));
}

TEST_CASE("stop answers what was accepted and refuses the rest") {
  Gate gate;
  ServerOptions options = server_options();
  auto created = Server::create(kShape, fake_backend([&] { gate.pass(); }), options);
  REQUIRE(created.ok());
  std::unique_ptr<Server> server = std::move(*created);
  std::thread thread([&] { server->run(); });
  RawEdge edge(server->endpoint());
  REQUIRE(edge.greet(16));
  for (int i = 0; i < 4; ++i) edge.send(infer_frames(edge.next()));
  REQUIRE(eventually([&] { return server->counters().in_flight == 4; }));
  server->stop();
  // A message that the loop answers shows that it has seen the stop.
  REQUIRE(eventually([&] {
    edge.send(encode(edge.next(), Hello{}));
    const auto message = edge.receive_message();
    return message && std::holds_alternative<Refusal>(message->body);
  }));
  edge.send(infer_frames(edge.next()));
  CHECK(name_of(edge.receive_refusal()) == "shutting down");
  gate.open();
  for (int i = 0; i < 4; ++i) {
    CHECK(std::holds_alternative<Reply>(edge.receive_message()->body));
  }
  thread.join();
  CHECK(server->counters().replies == 4);
}

TEST_CASE("stop refuses what it has no time for") {
  ServerOptions options = server_options();
  options.drain_ms = 0;
  options.max_batch = 1;
  options.max_window = 64;
  const auto slow = [] { std::this_thread::sleep_for(std::chrono::milliseconds(5)); };
  auto server = std::make_unique<RunningServer>(options, fake_backend(slow));
  ClientOptions own = client_options({server->endpoint()});
  own.window = 32;
  const auto client = make_client(own);
  REQUIRE(client->wait_available(kPatienceUs));
  for (int i = 0; i < 32; ++i) client->submit(Sample(1).request(), kPatienceUs);
  CHECK(eventually([&] { return server->counters().in_flight >= 16; }));
  server->stop();
  std::size_t answered = 0, refused = 0, lost = 0;
  for (int i = 0; i < 32; ++i) {
    const auto completion = client->poll(kPatienceUs);
    REQUIRE(completion);
    const OffloadOutcome& outcome = completion->outcome;
    if (kind_of(outcome) == "reply") ++answered;
    if (kind_of(outcome) == "refused") ++refused;
    if (kind_of(outcome) == "unavailable") ++lost;
    if (kind_of(outcome) == "refused") CHECK(contains(outcome.reason, "shutting down"));
    if (i == 0) server.reset();
  }
  CAPTURE(answered);
  CAPTURE(lost);
  // Whatever was sent arrives, though the server is gone by then; what ran has no answer.
  CHECK(lost <= 1);
  CHECK(answered + refused + lost == 32);
  CHECK(refused >= 8);
}

TEST_CASE("answers leave even when the server is destroyed at once") {
  for (int round = 0; round < 20; ++round) {
    auto server = std::make_unique<RunningServer>(server_options());
    RawEdge edge(server->endpoint());
    REQUIRE(edge.greet());
    edge.send(infer_frames(edge.next()));
    REQUIRE(eventually([&] { return server->counters().requests == 1; }));
    server.reset();
    const auto message = edge.receive_message();
    REQUIRE(message);
    CHECK(std::holds_alternative<Reply>(message->body));
  }
}

TEST_CASE("a restarted server is used again") {
  std::string endpoint = "tcp://127.0.0.1:*";
  std::unique_ptr<Client> client;
  for (int round = 0; round < 4; ++round) {
    CAPTURE(round);
    RunningServer server(server_options(endpoint));
    endpoint = server.endpoint();
    if (!client) client = make_client(client_options({endpoint}));
    int replies = 0;
    const std::int64_t until_us = now_us() + kPatienceUs;
    while (replies < 20 && now_us() < until_us) {
      const OffloadOutcome outcome = client->offload(Sample(5).request(), 200'000);
      if (outcome.kind == Kind::kReply) {
        ++replies;
        CHECK(outcome.reply.probabilities == expected_probabilities(5));
      } else {
        client->wait_available(100'000);
      }
    }
    CHECK(replies == 20);
  }
  CHECK(client->counters().timeouts <= 4);
}

TEST_CASE("what the operator got wrong is named") {
  const auto problem = [](const ServerOptions& options) {
    const auto server = Server::create(kShape, fake_backend(), options);
    return server.ok() ? std::string("none") : server.status().message();
  };
  RunningServer taken(server_options());
  CHECK(contains(problem(server_options(taken.endpoint())), taken.endpoint()));
  CHECK(contains(problem(server_options(taken.endpoint())), "in use"));
  CHECK(contains(problem(server_options("nonsense")), "nonsense"));
  CHECK(contains(problem(server_options("tcp://127.0.0.1:99999")), "99999"));
  CHECK(contains(problem(server_options("tcp://203.0.113.7:5555")), "203.0.113.7"));
  ServerOptions options = server_options();
  options.threads = 0;
  CHECK(contains(problem(options), "threads"));
  options = server_options();
  options.curve = CurveServerKeys{"bad", "bad", {}};
  CHECK(contains(problem(options), "public key"));
  CHECK(problem(server_options()) == "none");
}

TEST_CASE("the model is changed under load without a wrong or mixed answer") {
  ServerOptions options = server_options();
  options.threads = 2;
  RunningServer server(options);
  ModelShape other = kShape;
  other.model_hash = 99;
  // The second model answers every sample as if its first value were higher by 100.
  const auto shifted = [] {
    return std::make_unique<FakeBackend>(std::function<void()>(), 100.0f);
  };
  const auto load = [&](std::uint64_t hash, float shift, std::atomic<int>& replies,
                        std::atomic<int>& wrong, const std::atomic<bool>& stop) {
    ClientOptions own = client_options({server.endpoint()});
    own.model_hash = hash;
    own.window = 4;
    auto client = Client::create(own);
    std::map<RequestId, float> asked;
    for (int i = 0; client.ok() && !stop; ++i) {
      const float first = static_cast<float>(i % 100);
      if ((*client)->wait_available(1'000)) {
        asked[(*client)->submit(Sample(first).request(), kPatienceUs)] = first + shift;
      }
      while (const auto completion = (*client)->poll(0)) {
        if (completion->outcome.kind != Kind::kReply) continue;
        ++replies;
        wrong += completion->outcome.reply.probabilities !=
                 expected_probabilities(asked.at(completion->request_id));
      }
    }
  };
  std::atomic<int> old_replies{0}, new_replies{0}, wrong{0};
  std::atomic<bool> stop{false};
  std::thread with_old([&] { load(kModelHash, 0, old_replies, wrong, stop); });
  std::thread with_new([&] { load(99, 100, new_replies, wrong, stop); });
  for (int round = 0; round < 6; ++round) {
    std::atomic<int>& replies = round % 2 == 0 ? old_replies : new_replies;
    const int before = replies;
    CHECK(eventually([&] { return replies > before + 20; }));
    const bool to_new = round % 2 == 0;
    REQUIRE(
        server.replace(to_new ? other : kShape, to_new ? BackendFactory(shifted) : fake_backend())
            .ok());
  }
  CHECK(eventually([&] { return server.counters().reloads == 6; }));
  stop = true;
  with_old.join();
  with_new.join();
  CHECK(wrong == 0);
}

TEST_CASE("a model with longer samples than the server was started for is not taken") {
  RunningServer server(server_options());
  ModelShape longer = kShape;
  longer.max_length = 1'000;
  CHECK(contains(server.replace(longer, fake_backend()).message(), "longer samples"));
  ModelShape empty = kShape;
  empty.sizes.clear();
  CHECK_FALSE(server.replace(empty, fake_backend()).ok());
  CHECK(server.counters().model_hash == kModelHash);
  CHECK(offloads_well(*ready_client(server), 1));
}

}  // namespace splitee::transport
