// Round trip of a request through Client and Server, over a backend that does nothing, against a
// bare ZeroMQ echo of the same bytes: interleaved in one run, medians. Prints a line for each
// payload: bare, ours, ratio; and how fast the checksum is. Loopback, plain.
//   build/bench/transport_bench [ROUNDS]
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include <zmq.hpp>

#include "transport/checksum.h"
#include "transport/client.h"
#include "transport/server.h"
#include "transport/socket.h"

namespace splitee::transport {
namespace {

constexpr std::size_t kReplyBytes = 72 + 16;
constexpr int kWarmUp = 50, kSamples = 300;

class NullBackend : public Backend {
 public:
  runtime::Result<std::vector<float>> run(const BackendRequest&) override {
    return std::vector<float>{0.25f, 0.75f};
  }
};

// Answers every message of header and payload with as many bytes as a reply has.
class BareServer {
 public:
  BareServer() : socket_(context_, zmq::socket_type::router) {
    socket_.bind("tcp://127.0.0.1:*");
    endpoint_ = socket_.get(zmq::sockopt::last_endpoint);
    thread_ = std::thread([this] { serve(); });
  }
  ~BareServer() {
    stop_ = true;
    thread_.join();
  }
  const std::string& endpoint() const { return endpoint_; }

 private:
  void serve() {
    socket_.set(zmq::sockopt::rcvtimeo, 100);
    while (!stop_) {
      zmq::message_t peer, header, payload;
      if (!socket_.recv(peer)) continue;
      (void)!socket_.recv(header);
      (void)!socket_.recv(payload);
      socket_.send(peer, zmq::send_flags::sndmore);
      socket_.send(zmq::message_t(72), zmq::send_flags::sndmore);
      socket_.send(zmq::message_t(kReplyBytes - 72), zmq::send_flags::none);
    }
  }

  zmq::context_t context_;
  zmq::socket_t socket_;
  std::string endpoint_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

class BareClient {
 public:
  explicit BareClient(const std::string& endpoint) : socket_(context_, zmq::socket_type::dealer) {
    socket_.connect(endpoint);
  }
  void round_trip(const std::vector<float>& values) {
    socket_.send(zmq::message_t(72), zmq::send_flags::sndmore);
    socket_.send(zmq::message_t(values.data(), values.size() * sizeof(float)),
                 zmq::send_flags::none);
    zmq::message_t header, payload;
    (void)!socket_.recv(header);
    (void)!socket_.recv(payload);
  }

 private:
  zmq::context_t context_;
  zmq::socket_t socket_;
};

template <class Body>
double time_us(const Body& body) {
  const std::int64_t begin = now_us();
  constexpr int kAtOnce = 4;
  for (int i = 0; i < kAtOnce; ++i) body();
  return static_cast<double>(now_us() - begin) / kAtOnce;
}

double quantile(std::vector<double>& values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1))];
}

void compare(std::size_t tokens, std::size_t hidden, int rounds) {
  const ModelShape shape{1, 12, hidden, 512, 2};
  ServerOptions options;
  options.endpoint = "tcp://127.0.0.1:*";
  auto server = Server::create(
      shape, [] { return std::make_unique<NullBackend>(); }, options);
  if (!server.ok()) std::abort();
  std::thread thread([&] { (*server)->run(); });
  ClientOptions client_options;
  client_options.endpoints = {(*server)->endpoint()};
  client_options.model_hash = 1;
  auto client = Client::create(client_options);
  if (!client.ok() || !(*client)->wait_available(5'000'000)) std::abort();
  BareServer bare_server;
  BareClient bare_client(bare_server.endpoint());
  const std::vector<float> values(tokens * hidden, 0.5f);
  OffloadRequest request;
  request.layer = 1;
  request.tokens = tokens;
  request.activation = values;
  const auto ours = [&] {
    if ((*client)->offload(request, 5'000'000).kind != OffloadOutcome::Kind::kReply) std::abort();
  };
  const auto bare = [&] { bare_client.round_trip(values); };
  std::vector<double> ours_us, bare_us;
  for (int i = 0; i < kWarmUp; ++i) ours(), bare();
  for (int i = 0; i < kSamples * rounds; ++i) {
    bare_us.push_back(time_us(bare));
    ours_us.push_back(time_us(ours));
  }
  const double b = quantile(bare_us, 0.5), o = quantile(ours_us, 0.5);
  std::printf("%8zu B  bare %7.1f us (p10 %6.1f)  splitee %7.1f us (p10 %6.1f)  ratio %.2f\n",
              values.size() * sizeof(float), b, quantile(bare_us, 0.1), o, quantile(ours_us, 0.1),
              o / b);
  (*server)->stop();
  thread.join();
}

void checksum_speed() {
  const std::vector<std::byte> bytes(393'216, std::byte{7});
  std::uint64_t sum = 0;
  std::vector<double> times;
  for (int i = 0; i < 200; ++i) times.push_back(time_us([&] { sum ^= payload_checksum(bytes); }));
  const double us = quantile(times, 0.5);
  std::printf("checksum of %zu B: %.1f us, %.1f GB/s (%llu)\n", bytes.size(), us,
              static_cast<double>(bytes.size()) / us / 1e3, static_cast<unsigned long long>(sum));
}

}  // namespace
}  // namespace splitee::transport

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 1;
  splitee::transport::checksum_speed();
  splitee::transport::compare(1, 8, rounds);
  splitee::transport::compare(32, 192, rounds);
  splitee::transport::compare(32, 768, rounds);
  splitee::transport::compare(128, 768, rounds);
  return 0;
}
