// A real server over a network, in a thread, and clients for it.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "runtime/network.h"
#include "tests/transport/peers.h"

namespace splitee::transport::testing {

class NetworkServer {
 public:
  explicit NetworkServer(std::shared_ptr<const runtime::Network> network) {
    auto server = Server::create(std::move(network), server_options());
    REQUIRE_MESSAGE(server.ok(), server.status().message());
    server_ = std::move(*server);
    thread_ = std::thread([this] { server_->run(); });
  }
  ~NetworkServer() {
    server_->stop();
    thread_.join();
  }
  const std::string& endpoint() const { return server_->endpoint(); }

 private:
  std::unique_ptr<Server> server_;
  std::thread thread_;
};

inline std::unique_ptr<Client> client_of(const NetworkServer& server,
                                         const runtime::Network& network,
                                         Dtype dtype = Dtype::kF32) {
  ClientOptions options = client_options({server.endpoint()});
  options.model_hash = network.hash();
  options.activation_dtype = dtype;
  auto client = make_client(options);
  REQUIRE_MESSAGE(client->wait_available(kPatienceUs), client->last_problem());
  return client;
}

inline float distance(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  float largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

}  // namespace splitee::transport::testing
