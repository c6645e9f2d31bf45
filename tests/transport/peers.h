// Scripted peers for the transport tests: a server that answers as it is told, and an edge that
// sends whatever bytes it is given. Also a backend without a model.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "tests/transport/shapes.h"
#include "transport/client/client.h"
#include "transport/server/backend.h"
#include "transport/server/server.h"
#include "transport/wire/wire.h"
#include "transport/zmq/socket.h"

namespace splitee::transport::testing {

using Bytes = std::vector<std::byte>;
using View = std::span<const std::byte>;

inline constexpr std::uint64_t kModelHash = 0xabcdef0123456789u;
inline const ModelShape kShape = uniform_shape(kModelHash, 4, 8, 16, 3);
// Generous: only a hang lasts as long.
inline constexpr std::int64_t kPatienceUs = 10'000'000;

inline Bytes to_bytes(View view) {
  return {view.begin(), view.end()};
}

struct Raw {
  Bytes header, payload;
};

inline Raw to_raw(const Frames& frames) {
  return {to_bytes(frames.header), to_bytes(frames.payload.bytes())};
}

inline Result<Message> decode_raw(const Raw& raw) {
  const View frames[] = {raw.header, raw.payload};
  return decode(frames);
}

// --- a server of our own making ------------------------------------------------------------

// A ROUTER socket in a thread. The script is called for every message that decodes and says what
// goes back; it runs in the server's thread.
class FakeServer {
 public:
  using Script = std::function<std::vector<Raw>(const Message&)>;

  explicit FakeServer(Script script, std::string endpoint = "tcp://127.0.0.1:*")
      : script_(std::move(script)), socket_(context_, zmq::socket_type::router) {
    socket_.set(zmq::sockopt::linger, 100);
    socket_.bind(endpoint);
    endpoint_ = socket_.get(zmq::sockopt::last_endpoint);
    thread_ = std::thread([this] { serve(); });
  }
  ~FakeServer() {
    stop_ = true;
    thread_.join();
  }
  const std::string& endpoint() const { return endpoint_; }
  int hellos() const { return hellos_; }
  int infers() const { return infers_; }

 private:
  void serve() {
    while (!stop_) {
      zmq_pollitem_t items[] = {{socket_.handle(), 0, ZMQ_POLLIN, 0}};
      zmq_poll(items, 1, 5);
      Received received;
      while (receive(socket_, received)) answer(received);
    }
  }
  void answer(const Received& received) {
    std::vector<View> frames;
    for (std::size_t i = 1; i < received.parts.size(); ++i) {
      frames.push_back(bytes_of(received.parts[i]));
    }
    const auto message = decode(frames);
    if (!message.ok()) return;
    if (std::holds_alternative<Hello>(message->body)) ++hellos_;
    if (std::holds_alternative<Infer>(message->body)) ++infers_;
    const View peer = bytes_of(received.parts[0]);
    for (const Raw& raw : script_(*message)) {
      zmq_send(socket_.handle(), peer.data(), peer.size(), ZMQ_SNDMORE);
      zmq_send(socket_.handle(), raw.header.data(), raw.header.size(), ZMQ_SNDMORE);
      zmq_send(socket_.handle(), raw.payload.data(), raw.payload.size(), 0);
    }
  }

  Script script_;
  zmq::context_t context_;
  zmq::socket_t socket_;
  std::string endpoint_;
  std::atomic<bool> stop_{false};
  std::atomic<int> hellos_{0}, infers_{0};
  std::thread thread_;
};

inline Envelope answer_envelope(const Message& message, std::uint64_t hash = kModelHash) {
  return {message.envelope.request_id, hash, 0};
}

inline Raw welcome_to(const Message& message, std::uint64_t hash = kModelHash) {
  return to_raw(encode(answer_envelope(message, hash), Welcome{kAllCapabilities, 16, 4, 1, 3, 4}));
}

inline Reply good_reply(std::uint32_t server_us = 1) {
  Reply reply;
  reply.class_index = 2;
  reply.confidence = 0.5f;
  reply.probabilities = {0.25f, 0.25f, 0.5f};
  reply.server_us = server_us;
  return reply;
}

inline Raw reply_to(const Message& message) {
  return to_raw(encode(answer_envelope(message), good_reply()));
}

inline Raw refuse_to(const Message& message, RefuseCode code, std::uint64_t hash = kModelHash) {
  return to_raw(encode(answer_envelope(message, hash), Refusal{code, "scripted"}));
}

inline bool is_hello(const Message& message) {
  return std::holds_alternative<Hello>(message.body);
}

// Welcomes every hello; `on_infer` says what an infer gets.
inline FakeServer::Script welcoming(FakeServer::Script on_infer) {
  return [on_infer = std::move(on_infer)](const Message& message) -> std::vector<Raw> {
    if (is_hello(message)) return {welcome_to(message)};
    return on_infer(message);
  };
}

inline std::vector<Raw> answer_well(const Message& message) {
  return {reply_to(message)};
}

// --- an edge of our own making ---------------------------------------------------------------

class RawEdge {
 public:
  explicit RawEdge(const std::string& endpoint, const std::string& routing_id = "") {
    socket_.set(zmq::sockopt::linger, 0);
    socket_.set(zmq::sockopt::rcvtimeo, 5'000);
    socket_.set(zmq::sockopt::sndtimeo, 5'000);
    if (!routing_id.empty()) socket_.set(zmq::sockopt::routing_id, routing_id);
    socket_.connect(endpoint);
  }
  zmq::socket_t& socket() { return socket_; }

  void send_parts(const std::vector<Bytes>& parts) {
    for (std::size_t i = 0; i < parts.size(); ++i) {
      zmq_send(socket_.handle(), parts[i].data(), parts[i].size(),
               i + 1 < parts.size() ? ZMQ_SNDMORE : 0);
    }
  }
  void send(const Raw& raw) { send_parts({raw.header, raw.payload}); }
  void send(const Frames& frames) { send(to_raw(frames)); }

  // The next message, decoded, within five seconds. Its views live until the next call.
  std::optional<Message> receive_message(int timeout_ms = 5'000) {
    zmq_pollitem_t items[] = {{socket_.handle(), 0, ZMQ_POLLIN, 0}};
    zmq_poll(items, 1, timeout_ms);
    if (!receive(socket_, received_)) return std::nullopt;
    std::vector<View> frames;
    for (const zmq::message_t& part : received_.parts) frames.push_back(bytes_of(part));
    auto message = decode(frames);
    REQUIRE_MESSAGE(message.ok(), message.status().message());
    return std::move(*message);
  }
  // The next message as it is, within five seconds.
  bool receive_raw(Raw& raw, int timeout_ms = 5'000) {
    zmq_pollitem_t items[] = {{socket_.handle(), 0, ZMQ_POLLIN, 0}};
    zmq_poll(items, 1, timeout_ms);
    if (!receive(socket_, received_) || received_.parts.size() != 2) return false;
    raw = {to_bytes(bytes_of(received_.parts[0])), to_bytes(bytes_of(received_.parts[1]))};
    return true;
  }
  // The code of the refusal that comes next.
  std::optional<RefuseCode> receive_refusal() {
    const auto message = receive_message();
    if (!message || !std::holds_alternative<Refusal>(message->body)) return std::nullopt;
    last_text_ = std::get<Refusal>(message->body).text;
    last_id_ = message->envelope.request_id;
    return std::get<Refusal>(message->body).code;
  }
  const std::string& last_text() const { return last_text_; }
  std::uint64_t last_id() const { return last_id_; }

  Envelope next(std::uint64_t hash = kModelHash) {
    return {++id_, hash, static_cast<std::uint64_t>(now_us())};
  }
  bool greet(std::uint32_t window = 4) {
    send(encode(next(), Hello{kProtocolVersion, kProtocolVersion, kAllCapabilities, window}));
    const auto message = receive_message();
    return message && std::holds_alternative<Welcome>(message->body);
  }

 private:
  zmq::context_t context_;
  zmq::socket_t socket_{context_, zmq::socket_type::dealer};
  Received received_;
  std::uint64_t id_ = 0;
  std::uint64_t last_id_ = 0;
  std::string last_text_;
};

inline Frames infer_frames(const Envelope& envelope, std::uint32_t layer = 1,
                           std::uint32_t rows = 2, std::uint32_t cols = 8, float value = 0.5f,
                           std::uint64_t deadline_us = 5'000'000) {
  const std::vector<float> values(std::size_t{rows} * cols, value);
  return std::move(
      *encode_activation(envelope, Infer{layer, rows, cols, Dtype::kF32, deadline_us, {}}, values));
}

// --- a backend without a model ----------------------------------------------------------------

// The first value of a sample (or the first word of its input) is coded into the probabilities, so
// that a test sees whose answer it got. Values below 0 are refused; the hook may wait or throw.
inline std::vector<float> expected_probabilities(float first) {
  const float p = 0.5f + 0.25f * (first / 1024.0f);
  return {p, 1.0f - p, 0.0f};
}

class FakeBackend : public Backend {
 public:
  // `shift` is added to what is coded.
  explicit FakeBackend(std::function<void()> hook, float shift = 0)
      : hook_(std::move(hook)), shift_(shift) {}
  Result<std::vector<float>> run(const BackendRequest& request) override {
    if (hook_) hook_();
    const float first =
        request.layer == 0 ? static_cast<float>(words_of(request.input)[0]) : request.activation[0];
    if (first < 0) {
      return Status{Code::kInvalidArgument, "/secret/path at 0x7ffd1234"};
    }
    return expected_probabilities(first + shift_);
  }

 private:
  std::function<void()> hook_;
  float shift_;
};

inline BackendFactory fake_backend(std::function<void()> hook = {}) {
  return [hook] { return std::make_unique<FakeBackend>(hook); };
}

// A real server in a thread.
class RunningServer {
 public:
  explicit RunningServer(const ServerOptions& options, BackendFactory factory = fake_backend(),
                         const ModelShape& shape = kShape) {
    auto server = Server::create(shape, factory, options);
    REQUIRE_MESSAGE(server.ok(), server.status().message());
    server_ = std::move(*server);
    thread_ = std::thread([this] { server_->run(); });
  }
  ~RunningServer() {
    server_->stop();
    thread_.join();
  }
  void stop() { server_->stop(); }
  Status replace(const ModelShape& shape, const BackendFactory& factory) {
    return server_->replace_model(shape, factory);
  }
  const std::string& endpoint() const { return server_->endpoint(); }
  const std::vector<std::string>& endpoints() const { return server_->endpoints(); }
  const ServerCounters& counters() const { return server_->counters(); }

 private:
  std::unique_ptr<Server> server_;
  std::thread thread_;
};

inline ServerOptions server_options(const std::string& endpoint = "tcp://127.0.0.1:*") {
  ServerOptions options;
  options.endpoint = endpoint;
  return options;
}

// --- clients ----------------------------------------------------------------------------------

inline ClientOptions client_options(std::vector<std::string> endpoints) {
  ClientOptions options;
  options.endpoints = std::move(endpoints);
  options.model_hash = kModelHash;
  options.classes = 3;
  options.hello_timeout_ms = 500;
  options.reconnect_min_ms = 10;
  options.reconnect_max_ms = 100;
  options.seed = 7;
  return options;
}

inline std::unique_ptr<Client> make_client(const ClientOptions& options) {
  auto client = Client::create(options);
  REQUIRE_MESSAGE(client.ok(), client.status().message());
  return std::move(*client);
}

// One sample whose first value is `first`.
class Sample {
 public:
  explicit Sample(float first, std::size_t rows = 2) : values_(rows * 8, 0.5f) {
    values_[0] = first;
    request_.layer = 1;
    request_.shape = {rows, 8};
    request_.activation = values_;
  }
  const OffloadRequest& request() const { return request_; }

 private:
  std::vector<float> values_;
  OffloadRequest request_;
};

using Kind = OffloadOutcome::Kind;

inline std::string to_string(Kind kind) {
  switch (kind) {
    case Kind::kReply:
      return "reply";
    case Kind::kTimeout:
      return "timeout";
    case Kind::kRefused:
      return "refused";
    case Kind::kUnavailable:
      return "unavailable";
  }
  return "?";
}

// Whether `client` gets the right answer for a sample that starts with `first`.
inline bool offloads_well(Client& client, float first) {
  const OffloadOutcome outcome = client.offload(Sample(first).request(), kPatienceUs);
  CAPTURE(outcome.reason);
  CHECK(to_string(outcome.kind) == "reply");
  return outcome.kind == Kind::kReply &&
         outcome.reply.probabilities == expected_probabilities(first);
}

}  // namespace splitee::transport::testing
