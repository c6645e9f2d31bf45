#include "transport/zmq/endpoint.h"

#include <string>

#include <doctest/doctest.h>

namespace splitee::transport {

TEST_CASE("loopback endpoints are told from those that others can reach") {
  for (const std::string endpoint :
       {"tcp://127.0.0.1:5555", "tcp://127.0.0.1:*", "tcp://127.1.2.3:1", "tcp://localhost:5555",
        "tcp://[::1]:5555", "ipc:///tmp/socket"}) {
    CAPTURE(endpoint);
    CHECK(is_loopback_endpoint(endpoint));
  }
  for (const std::string endpoint :
       {"tcp://*:5555", "tcp://0.0.0.0:5555", "tcp://[::]:5555", "tcp://eth0:5555", "tcp://lo:5555",
        "tcp://192.168.1.2:5555", "tcp://128.0.0.1:5555", "tcp://example.org:5555",
        "tcp://127.0.0.1.example.org:5555", "tcp://localhost.example.org:1", "tcp://127.0.0.1",
        "tcp://[::ffff:10.0.0.1]:5555", "udp://127.0.0.1:5555", "pgm://127.0.0.1:5555", "",
        "tcp://", "127.0.0.1:5555"}) {
    CAPTURE(endpoint);
    CHECK_FALSE(is_loopback_endpoint(endpoint));
  }
}

TEST_CASE("what is no endpoint, and ports out of range, are found") {
  for (const std::string endpoint : {"tcp://127.0.0.1:65535", "tcp://[::1]:1", "tcp://host:5555",
                                     "tcp://[fe80::1%eth0]:5555", "ipc:///a:99999"}) {
    CAPTURE(endpoint);
    CHECK(check_endpoint(endpoint).ok());
    CHECK(check_bind_endpoint(endpoint).ok());
  }
  // To listen on, but not to connect to.
  for (const std::string endpoint : {"tcp://[::1]:0", "tcp://*:*", "tcp://127.0.0.1:*"}) {
    CAPTURE(endpoint);
    CHECK(check_bind_endpoint(endpoint).ok());
    CHECK(check_endpoint(endpoint).message() == endpoint + ": no such port");
  }
  CHECK(check_bind_endpoint("tcp://*:5555").ok());
  CHECK(check_endpoint("tcp://*:5555").message().find("* is a host to listen on") !=
        std::string::npos);
  for (const std::string endpoint :
       {"tcp://127.0.0.1:65536", "tcp://127.0.0.1:99999", "tcp://host:-1", "tcp://host:12x"}) {
    CAPTURE(endpoint);
    CHECK(check_endpoint(endpoint).message() == endpoint + ": no such port");
    CHECK(check_bind_endpoint(endpoint).message() == endpoint + ": no such port");
  }
  for (const std::string endpoint :
       {"", "nonsense", "5555", "127.0.0.1:5555", "tcp://127.0.0.1", "tcp://:5555",
        "tcp://host:", "tcp://", "ipc://", "udp://127.0.0.1:5555", "tcp://a b:1", "tcp://[::1:5555",
        "tcp://[]:5555", "tcp://a/b:5555", "tcp://127.0.0.1:1;127.0.0.1:2"}) {
    CAPTURE(endpoint);
    const std::string message = check_endpoint(endpoint).message();
    CHECK(message.find("'" + endpoint + "' is not an endpoint") == 0);
    CHECK(check_bind_endpoint(endpoint).message() == message);
  }
  for (const auto check : {check_endpoint, check_bind_endpoint}) {
    CHECK(check("inproc://name").message() ==
          "inproc://name: inproc reaches no other process; use tcp:// or ipc://");
  }
}

TEST_CASE("a tcp endpoint is taken apart and put together again") {
  const auto parts = split_tcp("tcp://[::1]:5555");
  REQUIRE(parts);
  CHECK(parts->host == "::1");
  CHECK(parts->port == "5555");
  CHECK(tcp_endpoint(parts->host, parts->port) == "tcp://[::1]:5555");
  CHECK(tcp_endpoint("127.0.0.1", "1") == "tcp://127.0.0.1:1");
  CHECK_FALSE(split_tcp("ipc:///a"));
}

}  // namespace splitee::transport
