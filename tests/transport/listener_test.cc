// What a server may listen on, with real sockets and files.
#include "transport/zmq/listener.h"

#include <fstream>
#include <string>

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/base/temp_folder.h"
#include "tests/transport/server_peers.h"
#include "transport/zmq/endpoint.h"
#include "transport/zmq/resolver.h"

namespace splitee::transport {

using namespace testing;

namespace {

std::string problem_of(const std::string& endpoint) {
  const Result<Listener> listener = Listener::open(endpoint, 4);
  return listener.ok() ? "none" : listener.status().message();
}

// Binds a socket file, and listens where that is wanted.
int socket_file(const std::string& path, bool listens) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  REQUIRE(path.size() < sizeof address.sun_path);
  path.copy(address.sun_path, path.size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  if (listens) REQUIRE(::listen(fd, 4) == 0);
  return fd;
}

bool serves(const std::string& server_endpoint) {
  const auto client = make_client(client_options({server_endpoint}));
  return client->wait_available(kPatienceUs) && offloads_well(*client, 3);
}

bool has_ipv6_loopback() {
  return Listener::open("tcp://[::1]:*", 4).ok();
}

}  // namespace

TEST_CASE("a server listens on every address that a name has, at one port") {
  RunningServer server(server_options("tcp://localhost:*"));
  const std::vector<std::string> all = server.endpoints();
  const std::string port = split_tcp(all.front())->port;
  for (const std::string& endpoint : all) {
    CAPTURE(endpoint);
    CHECK(split_tcp(endpoint)->port == port);
    CHECK(serves(endpoint));
  }
  // As many as the system's own list of names says.
  const Addresses named = resolve_now({"localhost", port});
  REQUIRE(named.ok());
  for (const std::string& endpoint : *named) {
    CAPTURE(endpoint);
    if (endpoint.find("[::1]") != std::string::npos && !has_ipv6_loopback()) continue;
    CHECK(serves(endpoint));
  }
}

TEST_CASE("a wildcard is every address, and an interface its own") {
  for (const std::string endpoint : {"tcp://*:*", "tcp://0.0.0.0:0", "tcp://lo:*"}) {
    CAPTURE(endpoint);
    RunningServer server(server_options(endpoint));
    const std::string port = split_tcp(server.endpoint())->port;
    CHECK(serves("tcp://127.0.0.1:" + port));
    if (endpoint == "tcp://*:*" && has_ipv6_loopback()) CHECK(serves("tcp://[::1]:" + port));
  }
}

TEST_CASE("an address in use or of another machine is named") {
  RunningServer taken(server_options());
  CHECK(problem_of(taken.endpoint()) ==
        "cannot listen on " + taken.endpoint() + ": Address already in use");
  CHECK(problem_of("tcp://203.0.113.7:5555") ==
        "cannot listen on tcp://203.0.113.7:5555: no address of this machine");
  CHECK(contains(problem_of("tcp://no-such-name.invalid:5555"), "no-such-name.invalid"));
}

TEST_CASE("an ipc path takes the place of a socket that nobody listens on, and of nothing else") {
  const splitee::testing::TempFolder folder;
  const std::string path = folder.file("socket"), endpoint = "ipc://" + path;
  SUBCASE("nothing") {
    RunningServer server(server_options(endpoint));
    CHECK(serves(endpoint));
  }
  SUBCASE("a socket left behind") {
    close(socket_file(path, true));
    RunningServer server(server_options(endpoint));
    CHECK(serves(endpoint));
  }
  SUBCASE("a file") {
    std::ofstream(path) << "precious";
    CHECK(problem_of(endpoint) ==
          "cannot listen on " + endpoint + ": there is a file that is no socket");
    std::string kept;
    std::ifstream(path) >> kept;
    CHECK(kept == "precious");
  }
  SUBCASE("a folder, a link to a file") {
    REQUIRE(::mkdir(path.c_str(), 0700) == 0);
    CHECK(contains(problem_of(endpoint), "no socket"));
    std::ofstream(folder.file("other")) << "precious";
    const std::string link = folder.file("link");
    REQUIRE(::symlink(folder.file("other").c_str(), link.c_str()) == 0);
    CHECK(contains(problem_of("ipc://" + link), "no socket"));
  }
  SUBCASE("a live server") {
    RunningServer server(server_options(endpoint));
    CHECK(problem_of(endpoint) ==
          "cannot listen on " + endpoint + ": another server listens there");
    CHECK(serves(endpoint));
  }
  SUBCASE("a path that is too long, a folder that is not there") {
    CHECK(contains(problem_of("ipc://" + folder.file(std::string(120, 'x'))), "too long"));
    CHECK(contains(problem_of("ipc://" + folder.file("no/socket")), "No such file"));
  }
  // The file goes with the server that made it.
  struct stat info;
  if (::lstat(path.c_str(), &info) == 0) CHECK_FALSE(S_ISSOCK(info.st_mode));
}

TEST_CASE("a server that ends leaves another one's socket alone") {
  const splitee::testing::TempFolder folder;
  const std::string path = folder.file("socket"), endpoint = "ipc://" + path;
  {
    Result<Listener> first = Listener::open(endpoint, 4);
    REQUIRE(first.ok());
    REQUIRE(::unlink(path.c_str()) == 0);
    close(socket_file(path, true));
  }
  struct stat info;
  CHECK(::lstat(path.c_str(), &info) == 0);
}

TEST_CASE("names without a file") {
  const std::string endpoint = "ipc://@splitee-test-" + std::to_string(getpid());
  RunningServer server(server_options(endpoint));
  CHECK(serves(endpoint));
  CHECK(contains(problem_of(endpoint), "in use"));
}

}  // namespace splitee::transport
