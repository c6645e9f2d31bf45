// The server against peers that break the rules, with good clients beside them, over real sockets.
// W numbers are those of the corpus of bad frames.
#include <cstring>
#include <string>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/hash.h"
#include "tests/transport/server_peers.h"
#include "transport/server/server.h"
#include "transport/wire/checksum.h"

namespace splitee::transport {

using namespace testing;

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
      "the edge has 0000000000000005, the server " + hash_to_string(kModelHash);
  const std::vector<Case> cases = {
      {"W02", parts({empty}), "bad request", "frames"},
      {"W03", mangle([](Raw& raw) { raw.header.resize(71); }), "bad request", "header of 71"},
      {"W03", mangle([](Raw& raw) { raw.header.resize(0); }), "bad request", "header of 0"},
      {"W04", mangle([](Raw& raw) { raw.header.resize(73); }), "bad request", "header of 73"},
      {"W05", mangle([](Raw& raw) { raw.header[0] = std::byte{0}; }), "bad request", "magic"},
      {"W05", mangle([](Raw& raw) { raw.header[4] = std::byte{9}; }), "unsupported version", "9"},
      {"W06", mangle([](Raw& raw) { raw.header[6] = std::byte{9}; }), "bad request",
       "header check"},
      {"W08", mangle([](Raw& raw) { raw.payload.pop_back(); }), "bad request", "payload of 63"},
      {"W08", mangle([](Raw& raw) { raw.payload.push_back({}); }), "bad request", "payload of 65"},
      {"W10", parts({some}), "bad request", "1 frames"},
      {"W10", parts({some, some, some}), "bad request", "3 frames"},
      {"W12", infer(1u, 2u, 7u), "bad request", "shape"},
      {"W12", infer(1u, 2u, 9u), "bad request", "shape"},
      {"W12", infer(1u, 17u, 4u), "bad request", "more rows"},
      {"W13", infer(4u), "bad request", "layer"},
      {"W13", infer(5u), "bad request", "layer"},
      {"W13", infer(4096u), "bad request", "layer"},
      {"W16", mangle([](Raw& raw) { std::memcpy(raw.payload.data(), &kNaN, 4); }), "bad request",
       "checksum"},
      {"W24", [](RawEdge& edge) { edge.send(infer_frames(edge.next(5))); }, "wrong model",
       wrong_hashes},
      {"W29", mangle([](Raw& raw) { raw.header[71] ^= std::byte{1}; }), "bad request",
       "header check"},
      {"", infer(1u, 2u, 8u, -1.0f), "bad request", "does not take"},
      {"",
       [](RawEdge& edge) { edge.send(input_frames(edge.next(), std::vector<std::int32_t>(17))); },
       "bad request", "longer input"},
      {"",
       [](RawEdge& edge) {
         edge.send(input_frames(edge.next(), std::vector<std::int32_t>(17), /*length=*/1));
       },
       "bad request", "more bytes"},
      {"", [](RawEdge& edge) { edge.send(input_frames(edge.next(), {5}, 1, /*kind=*/2)); },
       "bad request", "kind of the input"},
      {"", [](RawEdge& edge) { edge.send(encode(edge.next(5), Hello{})); }, "wrong model",
       wrong_hashes},
      {"",
       [](RawEdge& edge) {
         edge.send(encode(edge.next(), Hello{3, 4, 2, 1}));
       },
       "unsupported version", "versions 3 to 4, this server 2"},
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
    const std::uint64_t sum = payload_checksum(raw.payload);
    std::memcpy(raw.header.data() + 64, &sum, 8);
    seal_header(std::span(raw.header).first<kHeaderBytes>());
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

TEST_CASE("a message of many parts is one bad request (W14)") {
  RunningServer server(server_options());
  const auto good = ready_client(server);
  RawEdge edge(server.endpoint());
  REQUIRE(edge.greet());
  edge.send_parts(std::vector<Bytes>(100, Bytes(1)));
  CHECK(name_of(edge.receive_refusal()) == "bad request");
  CHECK(offloads_well(*good, 1));
  CHECK(server.counters().bad_frames == 1);
}

// Whole before the server looks what is unfinished, it is a bad request; else its sender is cut;
// both where it becomes whole between the look and the cut.
TEST_CASE("a message of very many parts is refused or cut, each once at most (W14)") {
  RunningServer server(server_options());
  const auto good = ready_client(server);
  RawEdge edge(server.endpoint());
  REQUIRE(edge.greet());
  edge.send_parts(std::vector<Bytes>(100'000, Bytes(1)));
  const auto seen = [&] {
    return server.counters().bad_frames + server.counters().endless_messages;
  };
  CHECK(eventually([&] { return seen() >= 1; }));
  CHECK(offloads_well(*good, 1));
  CHECK(server.counters().bad_frames <= 1);
  CHECK(server.counters().endless_messages <= 1);
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

namespace {

// What the server counts unread bytes by.
bool kernel_counts_bytes() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  char info[512];
  socklen_t size = sizeof info;
  // qemu-user takes the option for a number.
  const bool known =
      ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &size) == 0 && size > sizeof(int);
  close(fd);
  return known;
}

// A bare TCP connection to `server`.
int connect_to(const RunningServer& server) {
  const std::string port = server.endpoint().substr(server.endpoint().rfind(':') + 1);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(port)));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(fd >= 0);
  REQUIRE(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  return fd;
}

std::string receive_exactly(int fd, std::size_t size) {
  std::string bytes(size, '\0');
  REQUIRE(recv(fd, bytes.data(), size, MSG_WAITALL) == static_cast<ssize_t>(size));
  return bytes;
}

// Shakes hands as a ZMTP 3.0 DEALER without security does.
void shake_hands(int fd) {
  std::string greeting("\xff\0\0\0\0\0\0\0\0\x7f\3\0NULL", 16);
  greeting.resize(64, '\0');
  const std::string ready("\5READY\x0bSocket-Type\0\0\0\6DEALER", 28);
  const std::string opening = greeting + '\4' + static_cast<char>(ready.size()) + ready;
  REQUIRE(::send(fd, opening.data(), opening.size(), MSG_NOSIGNAL) ==
          static_cast<ssize_t>(opening.size()));
  receive_exactly(fd, greeting.size());
  const std::string command = receive_exactly(fd, 2);
  receive_exactly(fd, static_cast<unsigned char>(command[1]));
}

}  // namespace

TEST_CASE("bytes that are not ZeroMQ's harm no one (W30, W31, W36)") {
  RunningServer server(server_options());
  const auto good = ready_client(server);
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
    const int fd = connect_to(server);
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

TEST_CASE("a message that never ends costs its sender the connection (W15)") {
  if (!kernel_counts_bytes()) {
    MESSAGE("skipped: the system does not say what a connection has received, as under qemu-user");
    return;
  }
  RunningServer server(server_options());
  const auto good = ready_client(server);
  const int fd = connect_to(server);
  shake_hands(fd);
  // Parts of one byte, each with more to come.
  std::string parts;
  for (int i = 0; i < 1'000; ++i) parts += std::string("\1\1x", 3);
  CHECK(eventually(
      [&] { return ::send(fd, parts.data(), parts.size(), MSG_NOSIGNAL) < 0 && errno != EINTR; }));
  CHECK(eventually([&] { return server.counters().connections == 1; }));
  CHECK(server.counters().endless_messages.load() == 1);
  CHECK(offloads_well(*good, 2));
  close(fd);
}

TEST_CASE("a connection that says much before its hello is cut, and one that says nothing") {
  ServerOptions options = server_options();
  options.silent_ms = 300;
  RunningServer server(options);
  const auto good = ready_client(server);
  const int silent = connect_to(server);
  shake_hands(silent);
  CHECK(eventually([&] { return server.counters().silent_connections == 1; }));
  CHECK(eventually([&] { return server.counters().connections == 1; }));
  close(silent);
  if (kernel_counts_bytes()) {
    const int fd = connect_to(server);
    shake_hands(fd);
    const std::string part = "\1\x7f" + std::string(127, 'x');
    CHECK(eventually([&] { return ::send(fd, part.data(), part.size(), MSG_NOSIGNAL) < 0; }));
    CHECK(server.counters().endless_messages + server.counters().silent_connections == 2);
    close(fd);
  }
  CHECK(offloads_well(*good, 2));
}

TEST_CASE("a long message is no endless one, however slowly it comes (W35)") {
  RunningServer server(server_options());
  RawEdge edge(server.endpoint());
  REQUIRE(edge.greet());
  for (int i = 0; i < 300; ++i) {
    edge.send(infer_frames(edge.next(), 1, 16));
    REQUIRE(std::holds_alternative<Reply>(edge.receive_message()->body));
  }
  // More bytes than one message may have, but in whole ones.
  std::uint64_t bytes = 0;
  while (bytes < 1'000'000) {
    const Frames frames = infer_frames(edge.next(), 1, 16);
    bytes += frames.size();
    edge.send(frames);
    REQUIRE(edge.receive_message());
  }
  CHECK(server.counters().endless_messages.load() == 0);
}

namespace {

// A server whose I/O thread stands still in hold(), until the test opens the gate: a single small
// request is run by that thread.
class HeldServer {
 public:
  HeldServer()
      : server_(server_options(), fake_backend([this] {
                  if (hold_) gate_.pass();
                })) {}
  ~HeldServer() { gate_.open(); }

  void hold() {
    edge_.emplace(server_.endpoint());
    REQUIRE(edge_->greet());
    // Until the server knows that such requests are quick.
    for (int i = 0; i < 50; ++i) {
      edge_->send(infer_frames(edge_->next()));
      REQUIRE(edge_->receive_message());
    }
    hold_ = true;
    edge_->send(infer_frames(edge_->next()));
    REQUIRE(gate_.wait_for(1));
  }
  void let_go() {
    hold_ = false;
    gate_.open();
    CHECK(edge_->receive_message(20'000));
  }
  RunningServer& server() { return server_; }

 private:
  std::atomic<bool> hold_{false};
  Gate gate_;
  RunningServer server_;
  std::optional<RawEdge> edge_;
};

void reset_connection(int fd) {
  const linger at_once{1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close(fd);
}

// A whole message of two parts, that says nothing.
std::string small_message() {
  return std::string("\1\1x\0\1y", 6);
}

}  // namespace

TEST_CASE("an edge that goes while its messages wait takes no one with it") {
  HeldServer held;
  const auto good = ready_client(held.server());
  held.hold();
  std::vector<int> gone;
  for (int i = 0; i < 4; ++i) {
    gone.push_back(connect_to(held.server()));
    shake_hands(gone.back());
    std::string burst;
    for (int n = 0; n < 2'000; ++n) burst += small_message();
    // Heartbeats of the peer's own, which ZeroMQ answers when it comes to them.
    for (int n = 0; n < 10; ++n) burst += std::string("\4\7\4PING\0\5", 9) + small_message();
    REQUIRE(::send(gone.back(), burst.data(), burst.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(burst.size()));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  for (const int fd : gone) reset_connection(fd);
  // ZeroMQ's heartbeats come every half second.
  std::this_thread::sleep_for(std::chrono::milliseconds(1'200));
  held.let_go();
  CHECK(eventually([&] { return good->wait_available(kPatienceUs); }));
  CHECK(offloads_well(*good, 2));
}

TEST_CASE("an edge that sends faster than the server reads is cut") {
  if (!kernel_counts_bytes()) {
    MESSAGE("skipped: the system does not say what a connection has received, as under qemu-user");
    return;
  }
  HeldServer held;
  held.hold();
  const int fd = connect_to(held.server());
  shake_hands(fd);
  std::string block;
  for (int n = 0; n < 10'000; ++n) block += small_message();
  std::atomic<int> blocks{0};
  std::thread flood([&] {
    while (::send(fd, block.data(), block.size(), MSG_NOSIGNAL) > 0) ++blocks;
  });
  CHECK(eventually([&] { return blocks > 200; }));
  held.let_go();
  flood.join();
  close(fd);
  CHECK(eventually([&] { return held.server().counters().floods == 1; }));
}

TEST_CASE("connections beyond the limit are cut, and their places come back") {
  ServerOptions options = server_options();
  options.max_connections = 3;
  RunningServer server(options);
  const auto good = ready_client(server);
  {
    RawEdge second(server.endpoint()), third(server.endpoint());
    REQUIRE(second.greet());
    REQUIRE(third.greet());
    const int fourth = connect_to(server);
    char byte;
    // The greeting of ZeroMQ may come before the end.
    while (recv(fourth, &byte, 1, 0) > 0) {
    }
    close(fourth);
    CHECK(server.counters().connections_over_limit == 1);
    CHECK(offloads_well(*good, 2));
    second.send(infer_frames(second.next()));
    CHECK(std::holds_alternative<Reply>(second.receive_message()->body));
  }
  CHECK(eventually([&] { return server.counters().connections == 1; }));
  RawEdge late(server.endpoint());
  CHECK(late.greet());
}

}  // namespace splitee::transport
