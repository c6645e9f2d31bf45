// CURVE with an allow-list, over real sockets.
#include <array>
#include <string>

#include <doctest/doctest.h>

#include "tests/transport/peers.h"

namespace splitee::transport {
namespace {

using namespace testing;

struct KeyPair {
  std::string public_key, secret_key;
};

KeyPair new_keys() {
  std::array<char, 41> public_key{}, secret_key{};
  REQUIRE(zmq_curve_keypair(public_key.data(), secret_key.data()) == 0);
  return {public_key.data(), secret_key.data()};
}

}  // namespace

TEST_CASE("with CURVE only listed keys get through, and they are not disturbed") {
  const KeyPair server_keys = new_keys(), listed = new_keys(), second = new_keys(),
                stranger = new_keys();
  ServerOptions options = server_options();
  options.curve = CurveServerKeys{
      server_keys.public_key, server_keys.secret_key, {listed.public_key, second.public_key}};
  RunningServer server(options);
  const auto client_with = [&](const KeyPair& keys, const std::string& server_key) {
    ClientOptions own = client_options({server.endpoint()});
    own.curve = CurveClientKeys{keys.public_key, keys.secret_key, server_key};
    return make_client(own);
  };
  const auto good = client_with(listed, server_keys.public_key);
  REQUIRE_MESSAGE(good->wait_available(kPatienceUs), good->last_problem());
  CHECK(offloads_well(*good, 4));
  const auto also_good = client_with(second, server_keys.public_key);
  REQUIRE(also_good->wait_available(kPatienceUs));
  CHECK(offloads_well(*also_good, 5));

  SUBCASE("a key that is not listed") {
    const auto bad = client_with(stranger, server_keys.public_key);
    CHECK_FALSE(bad->wait_available(300'000));
    CHECK(server.counters().denied > 0);
  }
  SUBCASE("a wrong server key") {
    const auto bad = client_with(listed, stranger.public_key);
    CHECK_FALSE(bad->wait_available(300'000));
  }
  SUBCASE("a secret key that is not the public key's") {
    const auto bad = client_with({listed.public_key, stranger.secret_key}, server_keys.public_key);
    CHECK_FALSE(bad->wait_available(300'000));
  }
  SUBCASE("no CURVE at all") {
    const auto bad = make_client(client_options({server.endpoint()}));
    CHECK_FALSE(bad->wait_available(300'000));
    RawEdge edge(server.endpoint());
    edge.send_parts({Bytes(72), Bytes(8)});
    CHECK_FALSE(edge.receive_message(100));
  }
  CHECK(offloads_well(*good, 6));
  CHECK(server.counters().hellos == 2);
  CHECK(server.counters().bad_frames == 0);
}

TEST_CASE("an empty allow-list lets no one in") {
  const KeyPair server_keys = new_keys(), keys = new_keys();
  ServerOptions options = server_options();
  options.curve = CurveServerKeys{server_keys.public_key, server_keys.secret_key, {}};
  RunningServer server(options);
  ClientOptions own = client_options({server.endpoint()});
  own.curve = CurveClientKeys{keys.public_key, keys.secret_key, server_keys.public_key};
  const auto client = make_client(own);
  CHECK_FALSE(client->wait_available(300'000));
  CHECK(server.counters().hellos == 0);
}

TEST_CASE(
    "with CURVE a routing id is the server's to give: those that call themselves alike are "
    "served") {
  const KeyPair server_keys = new_keys(), listed = new_keys();
  ServerOptions options = server_options();
  options.curve =
      CurveServerKeys{server_keys.public_key, server_keys.secret_key, {listed.public_key}};
  RunningServer server(options);
  zmq::context_t context;
  std::vector<zmq::socket_t> twins;
  for (int i = 0; i < 3; ++i) {
    zmq::socket_t socket(context, zmq::socket_type::dealer);
    socket.set(zmq::sockopt::linger, 0);
    socket.set(zmq::sockopt::rcvtimeo, 5'000);
    socket.set(zmq::sockopt::routing_id, "same-identity-01");
    socket.set(zmq::sockopt::curve_serverkey, server_keys.public_key);
    socket.set(zmq::sockopt::curve_publickey, listed.public_key);
    socket.set(zmq::sockopt::curve_secretkey, listed.secret_key);
    socket.connect(server.endpoint());
    const Raw hello = to_raw(encode({1, kModelHash, 0}, Hello{}));
    zmq_send(socket.handle(), hello.header.data(), hello.header.size(), ZMQ_SNDMORE);
    zmq_send(socket.handle(), hello.payload.data(), hello.payload.size(), 0);
    twins.push_back(std::move(socket));
  }
  for (zmq::socket_t& twin : twins) {
    zmq::message_t part;
    CHECK(twin.recv(part).has_value());
  }
  CHECK(server.counters().hellos == 3);
  CHECK(server.counters().sessions == 3);
}

}  // namespace splitee::transport
