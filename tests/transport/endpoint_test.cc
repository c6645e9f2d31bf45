#include "transport/endpoint.h"

#include <string>

#include <doctest/doctest.h>

namespace splitee::transport {

TEST_CASE("loopback endpoints are told from those that others can reach") {
  for (const std::string endpoint :
       {"tcp://127.0.0.1:5555", "tcp://127.0.0.1:*", "tcp://127.1.2.3:1", "tcp://localhost:5555",
        "tcp://[::1]:5555", "ipc:///tmp/socket", "inproc://name"}) {
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
  for (const std::string endpoint : {"tcp://127.0.0.1:65535", "tcp://[::1]:0", "tcp://*:*",
                                     "tcp://host:5555", "ipc:///a:99999", "inproc://name"}) {
    CAPTURE(endpoint);
    CHECK(check_endpoint(endpoint).ok());
  }
  for (const std::string endpoint :
       {"tcp://127.0.0.1:65536", "tcp://127.0.0.1:99999", "tcp://host:-1", "tcp://host:12x"}) {
    CAPTURE(endpoint);
    CHECK(check_endpoint(endpoint).message() == endpoint + ": no such port");
  }
  for (const std::string endpoint :
       {"", "nonsense", "5555", "127.0.0.1:5555", "tcp://127.0.0.1", "tcp://:5555",
        "tcp://host:", "tcp://", "ipc://", "udp://127.0.0.1:5555"}) {
    CAPTURE(endpoint);
    const std::string message = check_endpoint(endpoint).message();
    CHECK(message.find("'" + endpoint + "' is not an endpoint") == 0);
  }
}

}  // namespace splitee::transport
