// Round trip of a request through Client and Server, over a back end that does nothing, against
// bare ZeroMQ echoes of the same bytes in as many frames (DEALER and ROUTER, header and payload
// there, header and payload back): one whose ends block in receive, and one whose ends poll as ours
// must, for a deadline and for a stop. Interleaved in one run, medians; loopback, plain. Prints a
// line for each payload, and how fast the checksum is.
//   build/bench/transport_bench [ROUNDS [BYTES]]
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <zmq.hpp>

#include "tests/transport/shapes.h"
#include "transport/client/client.h"
#include "transport/server/server.h"
#include "transport/wire/checksum.h"
#include "transport/zmq/socket.h"

namespace splitee::transport {
namespace {

constexpr std::size_t kReplyPayloadBytes = 16;
constexpr int kWarmUp = 50, kSamples = 300;

class NullBackend : public Backend {
 public:
  Result<std::vector<float>> run(const BackendRequest&) override {
    return std::vector<float>{0.25f, 0.75f};
  }
};

enum class Waits { kBlocking, kPolling };

// The next message of `parts` parts; nothing where it takes longer than timeout_ms.
bool receive_bare(zmq::socket_t& socket, Waits waits, std::span<zmq::message_t> parts,
                  long timeout_ms) {
  if (waits == Waits::kPolling) {
    zmq_pollitem_t item{socket.handle(), 0, ZMQ_POLLIN, 0};
    if (zmq_poll(&item, 1, timeout_ms) != 1) return false;
  }
  for (zmq::message_t& part : parts) {
    if (zmq_msg_recv(part.handle(), socket.handle(), 0) < 0) return false;
  }
  return true;
}

// Answers every message of header and payload with as many bytes as a reply has.
class BareServer {
 public:
  explicit BareServer(Waits waits) : waits_(waits), socket_(context_, zmq::socket_type::router) {
    socket_.set(zmq::sockopt::rcvtimeo, kPatienceMs);
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
  static constexpr int kPatienceMs = 100;

  void serve() {
    while (!stop_) {
      std::array<zmq::message_t, 3> parts;
      if (!receive_bare(socket_, waits_, parts, kPatienceMs)) continue;
      socket_.send(parts[0], zmq::send_flags::sndmore);
      socket_.send(zmq::message_t(kHeaderBytes), zmq::send_flags::sndmore);
      socket_.send(zmq::message_t(kReplyPayloadBytes), zmq::send_flags::none);
    }
  }

  const Waits waits_;
  zmq::context_t context_;
  zmq::socket_t socket_;
  std::string endpoint_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

class BareEcho {
 public:
  explicit BareEcho(Waits waits)
      : waits_(waits), server_(waits), socket_(context_, zmq::socket_type::dealer) {
    socket_.connect(server_.endpoint());
  }
  void round_trip(std::span<const float> values) {
    socket_.send(zmq::message_t(kHeaderBytes), zmq::send_flags::sndmore);
    socket_.send(zmq::message_t(values.data(), values.size_bytes()), zmq::send_flags::none);
    std::array<zmq::message_t, 2> parts;
    if (!receive_bare(socket_, waits_, parts, kPatienceMs)) std::abort();
  }

 private:
  static constexpr long kPatienceMs = 5'000;
  const Waits waits_;
  BareServer server_;
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

// Client and Server in this process.
class Link {
 public:
  explicit Link(std::size_t hidden) {
    const ModelShape shape = testing::uniform_shape(1, 12, hidden, 512, 2);
    ServerOptions options;
    options.endpoint = "tcp://127.0.0.1:*";
    auto server = Server::create(
        shape, [] { return std::make_unique<NullBackend>(); }, options);
    if (!server.ok()) std::abort();
    server_ = std::move(*server);
    thread_ = std::thread([this] { server_->run(); });
    ClientOptions client_options;
    client_options.endpoints = {server_->endpoint()};
    client_options.model_hash = shape.model_hash;
    auto client = Client::create(client_options);
    if (!client.ok() || !(*client)->wait_available(5'000'000)) std::abort();
    client_ = std::move(*client);
  }
  ~Link() {
    server_->stop();
    thread_.join();
  }
  void round_trip(const OffloadRequest& request) {
    if (client_->offload(request, 5'000'000).kind != OffloadOutcome::Kind::kReply) std::abort();
  }

 private:
  std::unique_ptr<Server> server_;
  std::thread thread_;
  std::unique_ptr<Client> client_;
};

void compare(std::size_t tokens, std::size_t hidden, int rounds) {
  const std::vector<float> values(tokens * hidden, 0.5f);
  OffloadRequest request;
  request.layer = 1;
  request.shape = {tokens, hidden};
  request.activation = values;
  Link link(hidden);
  BareEcho blocking(Waits::kBlocking), polling(Waits::kPolling);
  std::vector<double> ours_us, blocking_us, polling_us;
  for (int i = 0; i < kWarmUp + kSamples * rounds; ++i) {
    const double b = time_us([&] { blocking.round_trip(values); });
    const double p = time_us([&] { polling.round_trip(values); });
    const double o = time_us([&] { link.round_trip(request); });
    if (i < kWarmUp) continue;
    blocking_us.push_back(b);
    polling_us.push_back(p);
    ours_us.push_back(o);
  }
  const double b = quantile(blocking_us, 0.5), p = quantile(polling_us, 0.5),
               o = quantile(ours_us, 0.5);
  std::printf(
      "%8zu B  bare, blocking %6.1f us  polling %6.1f us  splitee %6.1f us (p10 %6.1f)  "
      "ratio %.2f, %.2f\n",
      values.size() * sizeof(float), b, p, o, quantile(ours_us, 0.1), o / b, o / p);
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
  const std::size_t only_bytes = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 0;
  splitee::transport::checksum_speed();
  for (const auto& [tokens, hidden] :
       {std::pair<std::size_t, std::size_t>{1, 8}, {32, 192}, {32, 768}, {128, 768}}) {
    if (only_bytes != 0 && only_bytes != tokens * hidden * sizeof(float)) continue;
    splitee::transport::compare(tokens, hidden, rounds);
  }
  return 0;
}
