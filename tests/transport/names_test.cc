// Servers by name: slow name servers, several addresses, addresses that change; and what an edge is
// told when it does not get in.
#include <atomic>
#include <map>
#include <mutex>
#include <string>

#include <doctest/doctest.h>

#include "tests/transport/server_peers.h"
#include "transport/zmq/curve.h"
#include "transport/zmq/endpoint.h"
#include "transport/zmq/listener.h"
#include "transport/zmq/resolver.h"

namespace splitee::transport {

using namespace testing;

namespace {

// A name service under the test's control. A name that it does not know takes until it is told.
class Names {
 public:
  void set(const std::string& host, std::vector<std::string> endpoints) {
    const std::lock_guard lock(shared_->mutex);
    shared_->known[host] = std::move(endpoints);
    shared_->changed.notify_all();
  }
  int asked() const {
    const std::lock_guard lock(shared_->mutex);
    return shared_->asked;
  }
  Resolver::Lookup lookup() const {
    return [shared = shared_](const TcpEndpoint& tcp) -> Addresses {
      std::unique_lock lock(shared->mutex);
      ++shared->asked;
      shared->changed.wait(lock, [&] { return shared->known.count(tcp.host) != 0; });
      const std::vector<std::string>& found = shared->known[tcp.host];
      if (found.empty()) return Status{Code::kNotFound, "cannot resolve " + tcp.host + ": unknown"};
      return found;
    };
  }

 private:
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    std::map<std::string, std::vector<std::string>> known;
    int asked = 0;
  };
  // The threads that ask may outlive the test.
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

ClientOptions named_options(const Names& names, std::vector<std::string> endpoints) {
  ClientOptions options = client_options(std::move(endpoints));
  options.lookup = names.lookup();
  return options;
}

// A port of this machine where nobody listens.
std::string dead_endpoint() {
  return RunningServer(server_options()).endpoint();
}

struct Keys {
  CurveKeyPair server = *make_curve_keys(), edge = *make_curve_keys(), other = *make_curve_keys();

  ServerOptions server_with_keys() const {
    ServerOptions options = server_options();
    options.curve = CurveServerKeys{server.public_key, server.secret_key, {edge.public_key}};
    return options;
  }
  static ClientOptions client_with(const RunningServer& to, const CurveKeyPair& own,
                                   const std::string& server_key) {
    ClientOptions options = client_options({to.endpoint()});
    options.curve = CurveClientKeys{own.public_key, own.secret_key, server_key};
    return options;
  }
};

// What the client says once it has been told.
std::string problem_of(const ClientOptions& options, const std::string& part) {
  const auto client = make_client(options);
  std::string problem;
  CHECK_FALSE(client->wait_available(0));
  (void)eventually([&] {
    client->available();
    problem = client->last_problem();
    return contains(problem, part);
  });
  return problem;
}

}  // namespace

TEST_CASE("a name that is never resolved holds up neither the other link nor the end") {
  RunningServer good(server_options());
  Names names;
  {
    const auto client =
        make_client(named_options(names, {"tcp://hangs.test:5555", good.endpoint()}));
    REQUIRE(client->wait_available(kPatienceUs));
    for (int i = 0; i < 100; ++i) CHECK(offloads_well(*client, 3));
    CHECK(contains(client->last_problem(), "the name is still being looked up"));
  }
  CHECK(names.asked() == 1);
  names.set("hangs.test", {});
}

TEST_CASE("a lookup that goes on is not begun again") {
  Names names;
  ClientOptions options = named_options(names, {"tcp://hangs.test:5555"});
  options.connect_timeout_ms = 20;
  const auto client = make_client(options);
  CHECK(eventually([&] {
    client->available();
    return client->counters().probes > 5;
  }));
  CHECK(names.asked() == 1);
  RunningServer server(server_options());
  names.set("hangs.test", {server.endpoint()});
  CHECK(client->wait_available(kPatienceUs));
}

TEST_CASE("every address of a name is tried in turn") {
  RunningServer server(server_options());
  const std::string dead = dead_endpoint();
  for (const std::vector<std::string>& addresses :
       {std::vector{dead, server.endpoint()}, std::vector{server.endpoint(), dead},
        std::vector{dead, dead, dead, server.endpoint()}}) {
    Names names;
    names.set("many.test", addresses);
    const auto client = make_client(named_options(names, {"tcp://many.test:5555"}));
    REQUIRE(client->wait_available(kPatienceUs));
    CHECK(offloads_well(*client, 3));
    CHECK(client->counters().probes == 1);
  }
}

TEST_CASE("an address that does not answer holds up the next one for a moment only") {
  // Full from the start: what connects to it waits for ever.
  const Listener full = std::move(*Listener::open("tcp://127.0.0.1:*", 0));
  std::vector<std::unique_ptr<RawEdge>> crowd;
  for (int i = 0; i < 8; ++i) crowd.push_back(std::make_unique<RawEdge>(full.endpoints().front()));
  RunningServer server(server_options());
  Names names;
  names.set("slow.test", {full.endpoints().front(), server.endpoint()});
  const auto client = make_client(named_options(names, {"tcp://slow.test:5555"}));
  REQUIRE(client->wait_available(kPatienceUs));
  CHECK(client->counters().probes == 1);
  CHECK(offloads_well(*client, 3));
}

TEST_CASE("a name is looked up anew when its link is down") {
  Names names;
  auto first = std::make_unique<RunningServer>(server_options());
  names.set("moves.test", {first->endpoint()});
  const auto client = make_client(named_options(names, {"tcp://moves.test:5555"}));
  REQUIRE(client->wait_available(kPatienceUs));
  RunningServer second(server_options());
  names.set("moves.test", {second.endpoint()});
  first.reset();
  CHECK(eventually([&] { return !client->available(); }));
  REQUIRE(client->wait_available(kPatienceUs));
  CHECK(offloads_well(*client, 3));
  CHECK(second.counters().hellos == 1);
}

TEST_CASE("names of the system are resolved") {
  RunningServer server(server_options("tcp://localhost:*"));
  const std::string port = split_tcp(server.endpoint())->port;
  const auto client = make_client(client_options({"tcp://localhost:" + port}));
  REQUIRE_MESSAGE(client->wait_available(kPatienceUs), client->last_problem());
  CHECK(offloads_well(*client, 3));
}

TEST_CASE("an edge is told why it does not get in") {
  const Keys keys;
  SUBCASE("a key that is not on the list") {
    RunningServer server(keys.server_with_keys());
    const std::string problem = problem_of(
        Keys::client_with(server, keys.other, keys.server.public_key), "authorized keys");
    CHECK(contains(problem, "the server does not let this edge's key " + keys.other.public_key));
  }
  SUBCASE("another server's key") {
    RunningServer server(keys.server_with_keys());
    const std::string problem =
        problem_of(Keys::client_with(server, keys.edge, keys.other.public_key), "server key");
    CHECK(contains(problem, "the server ended the handshake: is the server key its own"));
  }
  // Whichever side finds out first.
  SUBCASE("no key") {
    RunningServer server(keys.server_with_keys());
    CHECK(contains(problem_of(client_options({server.endpoint()}), "asks for keys"),
                   "asks for keys (CURVE), and this edge has none"));
  }
  SUBCASE("a key, but a server without") {
    RunningServer server(server_options());
    CHECK(contains(
        problem_of(Keys::client_with(server, keys.edge, keys.server.public_key), "no keys"),
        "no keys"));
  }
  SUBCASE("nobody there") {
    const std::string dead = dead_endpoint();
    CHECK(contains(problem_of(client_options({dead}), "cannot"), "cannot connect to " + dead));
  }
  SUBCASE("a name that does not exist") {
    Names names;
    names.set("no.test", {});
    CHECK(contains(problem_of(named_options(names, {"tcp://no.test:5555"}), "resolve"),
                   "cannot resolve no.test: unknown"));
  }
}

TEST_CASE("the server's operator is told which key was refused, once") {
  const Keys keys;
  std::mutex mutex;
  std::vector<std::string> told;
  ServerOptions options = keys.server_with_keys();
  options.notice = [&](const std::string& text) {
    const std::lock_guard lock(mutex);
    told.push_back(text);
  };
  RunningServer server(options);
  const auto unlisted = make_client(Keys::client_with(server, keys.other, keys.server.public_key));
  CHECK(eventually([&] {
    unlisted->available();
    return server.counters().denied >= 3;
  }));
  const auto mistaken = make_client(Keys::client_with(server, keys.edge, keys.other.public_key));
  CHECK(eventually([&] {
    mistaken->available();
    return server.counters().handshakes_failed >= 3;
  }));
  const std::lock_guard lock(mutex);
  REQUIRE(told.size() == 2);
  CHECK(told[0] == "refused the key " + keys.other.public_key +
                       " from 127.0.0.1: it is not on the list of authorized keys");
  CHECK(contains(told[1], "another server key"));
}

TEST_CASE("a key has no more connections than it may") {
  const Keys keys;
  ServerOptions options = keys.server_with_keys();
  options.max_key_connections = 2;
  RunningServer server(options);
  const ClientOptions own = Keys::client_with(server, keys.edge, keys.server.public_key);
  auto first = make_client(own);
  REQUIRE(first->wait_available(kPatienceUs));
  const auto second = make_client(own);
  REQUIRE(second->wait_available(kPatienceUs));
  CHECK(contains(problem_of(own, "no more"), "lets no more connections of this edge's key in"));
  CHECK(server.counters().key_over_limit > 0);
  CHECK(offloads_well(*second, 3));
  // Its place comes back.
  first.reset();
  const auto third = make_client(own);
  CHECK(third->wait_available(kPatienceUs));
}

}  // namespace splitee::transport
