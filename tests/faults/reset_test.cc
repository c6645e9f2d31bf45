// A real client and a real server with a relay between them that resets, cuts or corrupts each
// connection at a given byte: at every byte of a conversation, in both directions. Every request
// ends once, a reply is the right one, and afterwards the link works again.
#include <atomic>
#include <string>
#include <thread>

#include <doctest/doctest.h>
#include <unistd.h>

#include "tests/faults/relay.h"
#include "tests/transport/shapes.h"
#include "transport/client/client.h"
#include "transport/server/server.h"

using namespace splitee;
using namespace splitee::transport;
using splitee::faults::End;
using splitee::faults::Relay;

namespace {

const ModelShape kShape = testing::uniform_shape(0xfeed, 4, 3, 5, 2);
constexpr std::int64_t kPatienceUs = 60'000'000;

// Answers with what was sent: the share of the first value.
class EchoBackend : public Backend {
 public:
  splitee::Result<std::vector<float>> run(const BackendRequest& request) override {
    const float first = request.activation.empty() ? 0.5f : request.activation.front();
    return std::vector<float>{first, 1.0f - first};
  }
};

class RunningServer {
 public:
  RunningServer() {
    ServerOptions options;
    options.endpoint = "tcp://127.0.0.1:*";
    server_ = std::move(*Server::create(
        kShape, [] { return std::make_unique<EchoBackend>(); }, options));
    thread_ = std::thread([this] { server_->run(); });
  }
  ~RunningServer() {
    server_->stop();
    thread_.join();
  }
  std::string address() const {
    return "127.0.0.1" + server_->endpoint().substr(server_->endpoint().rfind(':'));
  }

 private:
  std::unique_ptr<Server> server_;
  std::thread thread_;
};

// The relay in a thread of its own, told what to do between its steps.
class RunningRelay {
 public:
  explicit RunningRelay(const std::string& target) : relay_(1) {
    const splitee::Status status = relay_.start("127.0.0.1:0", target);
    REQUIRE_MESSAGE(status.ok(), status.message());
    REQUIRE(::pipe(pipe_) == 0);
    thread_ = std::thread([this] { loop(); });
  }
  ~RunningRelay() {
    tell("quit");
    thread_.join();
    ::close(pipe_[0]);
    ::close(pipe_[1]);
  }
  std::string endpoint() const { return "tcp://127.0.0.1:" + std::to_string(relay_.port()); }

  // Done when it returns. All connections end first.
  void tell(const std::string& settings) {
    command_ = settings;
    done_ = false;
    REQUIRE(::write(pipe_[1], "x", 1) == 1);
    done_.wait(false);
  }

 private:
  void loop() {
    for (bool over = false; !over;) {
      const auto until_us = splitee::faults::now_us() + kPatienceUs;
      if (relay_.run_until(until_us, pipe_[0]) != Relay::Wake::kInput) continue;
      char byte;
      if (::read(pipe_[0], &byte, 1) != 1) continue;
      over = command_ == "quit";
      relay_.end_all(End::kClose);
      relay_.pass();
      if (!over) (void)!relay_.change(command_).ok();
      done_ = true;
      done_.notify_one();
    }
  }

  Relay relay_;
  int pipe_[2] = {-1, -1};
  std::string command_;
  std::atomic<bool> done_{false};
  std::thread thread_;
};

std::unique_ptr<Client> connect(const std::string& endpoint) {
  ClientOptions options;
  options.endpoints = {endpoint};
  options.model_hash = kShape.model_hash;
  options.classes = kShape.classes;
  options.reconnect_min_ms = 1;
  options.reconnect_max_ms = 5;
  // After a handshake that breaks ZMTP's rules ZeroMQ gives up, and the client waits this long.
  options.hello_timeout_ms = 500;
  options.seed = 3;
  return std::move(*Client::create(options));
}

// True where it was answered; then the answer must be its own.
bool offload(Client& client, float canary, std::int64_t deadline_us) {
  const std::vector<float> values(6, canary);
  OffloadRequest request;
  request.layer = 1;
  request.shape = {2, 3};
  request.activation = values;
  const OffloadOutcome outcome = client.offload(request, deadline_us);
  if (outcome.kind != OffloadOutcome::Kind::kReply) return false;
  CHECK(outcome.reply.probabilities == std::vector<float>{canary, 1.0f - canary});
  return true;
}

// The client may still have to find out that its connection is gone: that costs one request.
void require_recovery(Client& client, float canary) {
  for (int tries = 0; tries < 3; ++tries) {
    REQUIRE_MESSAGE(client.wait_available(kPatienceUs), client.last_problem());
    if (offload(client, canary, kPatienceUs)) return;
  }
  FAIL(client.last_problem());
}

void check_each_byte(const std::string& fault, std::size_t bytes, std::size_t step) {
  const RunningServer server;
  RunningRelay relay(server.address());
  for (std::size_t at = 0; at < bytes; at += step) {
    CAPTURE(fault);
    CAPTURE(at);
    relay.tell(fault + std::to_string(at));
    const auto client = connect(relay.endpoint());
    // With the fault at an early byte the link never comes up; later it breaks in the middle.
    const float canary = static_cast<float>(at % 1'000) / 1'024.0f;
    if (client->wait_available(20'000)) (void)offload(*client, canary, 100'000);
    relay.tell("rate=0");
    require_recovery(*client, canary);
  }
  // Behind the whole conversation the fault does no harm.
  relay.tell(fault + "1000000");
  const auto client = connect(relay.endpoint());
  require_recovery(*client, 0.25f);
}

}  // namespace

TEST_CASE("reset at each byte") {
  const std::size_t step = std::getenv("SPLITEE_FULL") != nullptr ? 1 : 13;
  check_each_byte("up.reset_at=", 700, step);
  check_each_byte("down.reset_at=", 700, step);
}

TEST_CASE("cut at each byte") {
  const std::size_t step = std::getenv("SPLITEE_FULL") != nullptr ? 1 : 29;
  check_each_byte("up.cut_at=", 700, step);
  check_each_byte("down.cut_at=", 700, step);
}

TEST_CASE("a bit flipped in each byte") {
  const std::size_t step = std::getenv("SPLITEE_FULL") != nullptr ? 1 : 17;
  check_each_byte("up.corrupt_at=", 700, step);
  check_each_byte("down.corrupt_at=", 700, step);
}
