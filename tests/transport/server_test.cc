// The server against good clients and raw attackers, over real sockets.
#include "transport/server.h"

#include <condition_variable>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/hash.h"
#include "tests/transport/peers.h"

namespace splitee::transport {
namespace {

using namespace testing;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::string kind_of(const OffloadOutcome& outcome) {
  return testing::to_string(outcome.kind);
}

std::string name_of(std::optional<RefuseCode> code) {
  return code ? std::string(to_string(*code)) : "none";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Where workers wait until the test lets them go on.
class Gate {
 public:
  void pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    --waiting_;
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  bool wait_for(int waiting) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return waiting_ >= waiting; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  bool open_ = false;
};

template <class Condition>
bool eventually(Condition condition) {
  const std::int64_t until_us = now_us() + kPatienceUs;
  while (!condition()) {
    if (now_us() > until_us) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

std::unique_ptr<Client> ready_client(const RunningServer& server) {
  auto client = make_client(client_options({server.endpoint()}));
  REQUIRE_MESSAGE(client->wait_available(kPatienceUs), client->last_problem());
  return client;
}

Frames tokens_frames(const Envelope& envelope, const std::vector<std::int32_t>& ids) {
  return std::move(*encode_tokens(envelope, 5'000'000, ids, std::vector<std::int32_t>(ids.size())));
}

}  // namespace

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
  std::map<Client::Ticket, float> asked;
  int answered = 0;
  for (int i = 0; i < 400; ++i) {
    while (!client->available()) {
      const auto completion = client->poll(kPatienceUs);
      REQUIRE(completion);
      REQUIRE(kind_of(completion->outcome) == "reply");
      CHECK(completion->outcome.reply.probabilities ==
            expected_probabilities(asked.at(completion->ticket)));
      ++answered;
    }
    const float first = static_cast<float>(i);
    asked[client->submit(Sample(first, 1 + i % 16).request(), kPatienceUs)] = first;
  }
  while (const auto completion = client->poll(kPatienceUs)) {
    CHECK(completion->outcome.reply.probabilities ==
          expected_probabilities(asked.at(completion->ticket)));
    ++answered;
  }
  CHECK(answered == 400);
}

TEST_CASE("token ids are taken in place of an activation") {
  RunningServer server(server_options());
  RawEdge edge(server.endpoint());
  REQUIRE(edge.greet());
  edge.send(tokens_frames(edge.next(), {77, 5, 6}));
  const auto message = edge.receive_message();
  REQUIRE(message);
  REQUIRE(std::holds_alternative<Reply>(message->body));
  CHECK(std::get<Reply>(message->body).probabilities == expected_probabilities(77));
}

TEST_CASE("what does not fit is refused with its reason, and good edges notice nothing") {
  struct Case {
    std::string id;
    std::function<void(RawEdge&)> send;
    std::string code;
    std::string text;  // part of it
  };
  const auto infer = [](auto... arguments) {
    return [=](RawEdge& edge) { edge.send(infer_frames(edge.next(), arguments...)); };
  };
  const auto mangle = [](std::function<void(Raw&)> change) {
    return [change](RawEdge& edge) {
      Raw raw = to_raw(infer_frames(edge.next()));
      change(raw);
      edge.send(raw);
    };
  };
  const auto parts = [](std::vector<Bytes> all) {
    return [all](RawEdge& edge) { edge.send_parts(all); };
  };
  const Bytes empty, some(10, std::byte{1});
  const std::string wrong_hashes =
      "the edge has 0000000000000005, the server " + runtime::hash_to_string(kModelHash);
  const std::vector<Case> cases = {
      {"W02", parts({empty}), "bad request", "frames"},
      {"W03", mangle([](Raw& raw) { raw.header.resize(71); }), "bad request", "header of 71"},
      {"W03", mangle([](Raw& raw) { raw.header.resize(0); }), "bad request", "header of 0"},
      {"W04", mangle([](Raw& raw) { raw.header.resize(73); }), "bad request", "header of 73"},
      {"W05", mangle([](Raw& raw) { raw.header[0] = std::byte{0}; }), "bad request", "magic"},
      {"W05", mangle([](Raw& raw) { raw.header[4] = std::byte{9}; }), "unsupported version", "9"},
      {"W06", mangle([](Raw& raw) { raw.header[6] = std::byte{9}; }), "bad request", "checksum"},
      {"W08", mangle([](Raw& raw) { raw.payload.pop_back(); }), "bad request", "payload of 63"},
      {"W08", mangle([](Raw& raw) { raw.payload.push_back({}); }), "bad request", "payload of 65"},
      {"W10", parts({some}), "bad request", "1 frames"},
      {"W10", parts({some, some, some}), "bad request", "3 frames"},
      {"W12", infer(1u, 2u, 7u), "bad request", "hidden size"},
      {"W12", infer(1u, 2u, 9u), "bad request", "hidden size"},
      {"W12", infer(1u, 17u, 4u), "bad request", "more tokens"},
      {"W13", infer(4u), "bad request", "layer"},
      {"W13", infer(5u), "bad request", "layer"},
      {"W13", infer(4096u), "bad request", "layer"},
      {"W16", mangle([](Raw& raw) { std::memcpy(raw.payload.data(), &kNaN, 4); }), "bad request",
       "checksum"},
      {"W24", [](RawEdge& edge) { edge.send(infer_frames(edge.next(5))); }, "wrong model",
       wrong_hashes},
      {"W29", mangle([](Raw& raw) { raw.header[71] ^= std::byte{1}; }), "bad request", "checksum"},
      {"", infer(1u, 2u, 8u, -1.0f), "bad request", "does not take"},
      {"",
       [](RawEdge& edge) { edge.send(tokens_frames(edge.next(), std::vector<std::int32_t>(17))); },
       "bad request", "more tokens"},
      {"", [](RawEdge& edge) { edge.send(encode(edge.next(5), Hello{})); }, "wrong model",
       wrong_hashes},
      {"",
       [](RawEdge& edge) {
         edge.send(encode(edge.next(), Hello{2, 3, 2, 1}));
       },
       "unsupported version", "version 1"},
  };
  RunningServer server(server_options());
  const auto good = ready_client(server);
  RawEdge edge(server.endpoint());
  REQUIRE(edge.greet());
  for (const Case& c : cases) {
    CAPTURE(c.id);
    CAPTURE(c.text);
    c.send(edge);
    CHECK(name_of(edge.receive_refusal()) == c.code);
    CHECK_MESSAGE(contains(edge.last_text(), c.text), edge.last_text());
    for (const std::string leak : {"/", "0x", "tcp", "127.0"}) {
      CHECK_FALSE(contains(edge.last_text(), leak));
    }
    CHECK(offloads_well(*good, 3));
  }
  // Nothing more comes back than one refusal each, and the edge itself may go on.
  CHECK_FALSE(edge.receive_message(50));
  edge.send(infer_frames(edge.next()));
  CHECK(std::holds_alternative<Reply>(edge.receive_message()->body));
  CHECK(server.counters().refusals == cases.size());
}

TEST_CASE("activations with values that are not finite are refused (W16)") {
  RunningServer server(server_options());
  RawEdge edge(server.endpoint());
  REQUIRE(edge.greet());
  // The encoder refuses them, so an f16 infinity is smuggled in as a finite value of f32's bits.
  const std::vector<float> values(8, 1.0f);
  for (const float bad : {kNaN, std::numeric_limits<float>::infinity(), 1e38f}) {
    CAPTURE(bad);
    const Envelope envelope = edge.next();
    Frames frames =
        std::move(*encode_activation(envelope, Infer{1, 1, 8, Dtype::kF32, 1'000'000, {}}, values));
    Raw raw = to_raw(frames);
    std::memcpy(raw.payload.data() + 4, &bad, 4);
    Bytes hashed(raw.header.begin(), raw.header.begin() + 64);
    const std::uint64_t payload_hash = runtime::content_hash(raw.payload);
    hashed.resize(72);
    std::memcpy(hashed.data() + 64, &payload_hash, 8);
    const std::uint64_t sum = runtime::content_hash(hashed);
    std::memcpy(raw.header.data() + 64, &sum, 8);
    edge.send(raw);
    if (bad == 1e38f) {
      CHECK(std::holds_alternative<Reply>(edge.receive_message()->body));
    } else {
      CHECK(name_of(edge.receive_refusal()) == "bad request");
      CHECK(contains(edge.last_text(), "finite"));
    }
  }
}

TEST_CASE("messages out of order or repeated are refused (W17, W22, W23)") {
  RunningServer server(server_options());
  RawEdge edge(server.endpoint());
  const Raw early = to_raw(infer_frames(edge.next()));
  edge.send(early);
  CHECK(name_of(edge.receive_refusal()) == "no session");
  CHECK(edge.last_id() == 1);
  REQUIRE(edge.greet());
  edge.send(early);
  CHECK(name_of(edge.receive_refusal()) == "bad request");
  CHECK(contains(edge.last_text(), "does not grow"));
  const Raw request = to_raw(infer_frames(edge.next()));
  edge.send(request);
  CHECK(std::holds_alternative<Reply>(edge.receive_message()->body));
  edge.send(request);
  CHECK(name_of(edge.receive_refusal()) == "bad request");
  const Raw hello = to_raw(encode(edge.next(), Hello{}));
  edge.send(hello);
  CHECK(std::holds_alternative<Welcome>(edge.receive_message()->body));
  edge.send(hello);
  CHECK(name_of(edge.receive_refusal()) == "bad request");
  // Only a server sends these: no answer at all, so that two servers could never keep each other
  // busy.
  edge.send(encode(edge.next(), good_reply()));
  edge.send(encode(edge.next(), Refusal{RefuseCode::kBusy, ""}));
  edge.send(encode(edge.next(), Welcome{2, 1, 1, 1, 1, 1}));
  edge.send(encode({edge.next().request_id, 0, 0}, Pong{}));
  edge.send(encode({edge.next().request_id, 0, 0}, Ping{}));
  CHECK(std::holds_alternative<Pong>(edge.receive_message()->body));
}

TEST_CASE("a session is the peer's own (W18)") {
  RunningServer server(server_options());
  RawEdge first(server.endpoint()), second(server.endpoint());
  REQUIRE(first.greet());
  second.send(infer_frames(second.next()));
  CHECK(name_of(second.receive_refusal()) == "no session");
  REQUIRE(second.greet());
  // The same ids on both connections.
  for (int i = 0; i < 20; ++i) {
    first.send(infer_frames(first.next(), 1, 2, 8, 10));
    second.send(infer_frames(second.next(), 1, 2, 8, 20));
    CHECK(std::get<Reply>(first.receive_message()->body).probabilities ==
          expected_probabilities(10));
    CHECK(std::get<Reply>(second.receive_message()->body).probabilities ==
          expected_probabilities(20));
  }
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
    options.max_queue_bytes = 2 * 2 * 8 * 4;
  }
  RunningServer server(options, fake_backend([&] { gate.pass(); }));
  RawEdge edge(server.endpoint());
  REQUIRE(edge.greet(16));
  edge.send(infer_frames(edge.next()));
  REQUIRE(gate.wait_for(1));
  for (int i = 0; i < 5; ++i) edge.send(infer_frames(edge.next()));
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
  edge.send(encode({edge.next().request_id, kModelHash, start}, Hello{1, 1, 2, 4}));
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

TEST_CASE("frames beyond the longest legal one cut the peer (W09)") {
  RunningServer server(server_options());
  const auto good = ready_client(server);
  {
    // The longest legal request: every token the model takes.
    CHECK(kind_of(good->offload(Sample(1, 16).request(), kPatienceUs)) == "reply");
  }
  RawEdge edge(server.endpoint());
  REQUIRE(edge.greet());
  edge.send_parts({Bytes(72), Bytes(1'025)});  // one byte over
  CHECK_FALSE(edge.receive_message(100));
  CHECK(offloads_well(*good, 1));
  RawEdge limit(server.endpoint());
  limit.send_parts({Bytes(72), Bytes(1'024)});
  CHECK(name_of(limit.receive_refusal()) == "bad request");
}

TEST_CASE("a message of very many parts is one bad request (W14)") {
  RunningServer server(server_options());
  const auto good = ready_client(server);
  RawEdge edge(server.endpoint());
  edge.send_parts(std::vector<Bytes>(100'000, Bytes(1)));
  CHECK(name_of(edge.receive_refusal()) == "bad request");
  CHECK(offloads_well(*good, 1));
  CHECK(server.counters().bad_frames == 1);
}

TEST_CASE("an edge that never reads harms no other (W34)") {
  RunningServer server(server_options());
  const auto good = ready_client(server);
  RawEdge edge(server.endpoint());
  edge.socket().set(zmq::sockopt::rcvhwm, 1);
  const Raw garbage{Bytes(72), Bytes(8)};
  for (int i = 0; i < 20'000; ++i) {
    edge.send(garbage);
    if (i % 1'000 == 0) CHECK(offloads_well(*good, 1));
  }
  CHECK(eventually([&] { return server.counters().bad_frames == 20'000; }));
  CHECK(offloads_well(*good, 1));
}

TEST_CASE("routing ids: long ones serve, taken ones are turned away (W37)") {
  RunningServer server(server_options());
  RawEdge longest(server.endpoint(), std::string(255, 'x'));
  CHECK(longest.greet());
  RawEdge twin(server.endpoint(), std::string(255, 'x'));
  twin.send(encode(twin.next(), Hello{}));
  CHECK_FALSE(twin.receive_message(100));
  longest.send(infer_frames(longest.next()));
  CHECK(std::holds_alternative<Reply>(longest.receive_message()->body));
}

TEST_CASE("bytes that are not ZeroMQ's harm no one (W30, W31, W36)") {
  RunningServer server(server_options());
  const auto good = ready_client(server);
  const std::string port = server.endpoint().substr(server.endpoint().rfind(':') + 1);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(port)));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const std::vector<std::string> openings = {
      "",
      "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
      std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11),      // TLS hello
      std::string("\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f", 10),          // half a greeting
      std::string("\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x00\x00", 12),  // ZMTP 1
      std::string(5'000, '\xff'),
  };
  std::vector<int> open;
  for (int i = 0; i < 60; ++i) {
    const std::string& opening = openings[i % openings.size()];
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0);
    REQUIRE(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    (void)!::send(fd, opening.data(), opening.size(), MSG_NOSIGNAL);
    if (i % 2 == 0) {
      const linger reset{1, 0};
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      close(fd);
    } else {
      open.push_back(fd);
    }
    CHECK(offloads_well(*good, 2));
  }
  for (const int fd : open) close(fd);
  CHECK(offloads_well(*good, 2));
  CHECK(server.counters().bad_frames == 0);
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

}  // namespace splitee::transport
