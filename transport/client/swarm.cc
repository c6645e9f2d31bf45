#include "transport/client/swarm.h"

#include <array>
#include <cstring>

#include <poll.h>
#include <sys/prctl.h>

#include "transport/zmq/endpoint.h"
#include "transport/zmq/resolver.h"
#include "transport/zmq/socket.h"

namespace splitee::transport {
namespace {

// Messages that wait in ZeroMQ for a connection: what a server does not read is not the swarm's
// memory.
constexpr int kHighWater = 1'000;
constexpr std::uint32_t kWindow = 1'024;  // asked for; the server grants what it likes

// Our names for the connections: what the routing id of a ROUTER's message is.
std::string name_of(std::size_t connection) {
  const auto number = static_cast<std::uint32_t>(connection);
  std::string name(1 + sizeof number, 'c');
  std::memcpy(name.data() + 1, &number, sizeof number);
  return name;
}

std::optional<std::size_t> connection_of(const zmq::message_t& name) {
  std::uint32_t number;
  if (name.size() != 1 + sizeof number) return std::nullopt;
  std::memcpy(&number, static_cast<const char*>(name.data()) + 1, sizeof number);
  return number;
}

bool send_part(zmq::socket_t& socket, zmq::message_t& part, int flags) {
  return zmq_msg_send(part.handle(), socket.handle(), flags | ZMQ_DONTWAIT) >= 0;
}

}  // namespace

struct Swarm::Impl {
  struct Sample {
    std::array<std::byte, kHeaderBytes> header;
    zmq::message_t payload;  // shared by all messages with this sample
  };

  explicit Impl(const SwarmOptions& swarm_options);
  void handle(Received& received, const std::function<void(const Answer&)>& report);
  bool readable() const { return (socket.get(zmq::sockopt::events) & ZMQ_POLLIN) != 0; }

  SwarmOptions options;
  zmq::context_t context{1};
  zmq::socket_t socket{context, zmq::socket_type::router};
  std::vector<Sample> samples;
  std::vector<bool> welcomed;
  std::size_t welcomes = 0;
  Status refusal;  // of a hello
  std::uint64_t next_id = 1;
};

// One ROUTER with many connections instead of a DEALER each: one descriptor to wait for. The server
// sees no difference.
Swarm::Impl::Impl(const SwarmOptions& swarm_options)
    : options(swarm_options), welcomed(options.connections, false) {
  using namespace zmq::sockopt;
  configure(socket, kMaxAnswerBytes, kHighWater);
  socket.set(router_mandatory, 1);
  socket.set(ipv6, 1);
  if (options.curve) {
    socket.set(curve_serverkey, options.curve->server_key);
    socket.set(curve_publickey, options.curve->public_key);
    socket.set(curve_secretkey, options.curve->secret_key);
  }
  for (std::size_t i = 0; i < options.connections; ++i) {
    socket.set(connect_routing_id, name_of(i));
    socket.connect(options.endpoints[i % options.endpoints.size()]);
  }
}

void Swarm::Impl::handle(Received& received, const std::function<void(const Answer&)>& report) {
  const std::optional<std::size_t> connection = connection_of(received.parts.front());
  const Result<Message> message = decode(received.frames(1));
  if (!connection || *connection >= welcomed.size() || !message.ok()) return;
  Answer answer;
  answer.connection = *connection;
  answer.request_id = message->envelope.request_id;
  if (const auto* reply = std::get_if<Reply>(&message->body)) {
    answer.server_us = reply->server_us;
    report(answer);
  } else if (const auto* refused = std::get_if<Refusal>(&message->body)) {
    if (!welcomed[*connection]) {
      refusal = {Code::kUnsupported, std::string(to_string(refused->code)) + ": " + refused->text};
      return;
    }
    answer.refused = refused->code;
    answer.text = refused->text;
    report(answer);
  } else if (std::holds_alternative<Welcome>(message->body) && !welcomed[*connection]) {
    welcomed[*connection] = true;
    ++welcomes;
  }
}

Swarm::Swarm() = default;
Swarm::~Swarm() = default;

std::int64_t Swarm::clock_us() {
  return now_us();
}

Result<std::unique_ptr<Swarm>> Swarm::create(const SwarmOptions& options) {
  const auto bad = [](const std::string& what) { return Status{Code::kInvalidArgument, what}; };
  if (options.endpoints.empty()) return bad("no server endpoint");
  if (options.connections == 0) return bad("no connections");
  for (const std::string& endpoint : options.endpoints) {
    if (Status status = check_endpoint(endpoint); !status.ok()) return status;
  }
  // Times are waited for to the microsecond.
  prctl(PR_SET_TIMERSLACK, 1'000ul, 0ul, 0ul, 0ul);
  std::unique_ptr<Swarm> swarm(new Swarm);
  try {
    SwarmOptions numeric = options;
    for (std::string& endpoint : numeric.endpoints) {
      if (is_numeric_endpoint(endpoint)) continue;
      Addresses addresses = resolve_now(*split_tcp(endpoint));
      if (!addresses.ok()) return addresses.status();
      endpoint = addresses->front();
    }
    swarm->impl_ = std::make_unique<Impl>(numeric);
  } catch (const std::exception& error) {
    std::string names;
    for (const std::string& endpoint : options.endpoints) names += endpoint + " ";
    return bad(names + "cannot be connected to: " + error.what());
  }
  return swarm;
}

Status Swarm::greet(std::int64_t timeout_us) {
  Impl& impl = *impl_;
  const std::int64_t until_us = now_us() + timeout_us;
  Hello hello;
  hello.window = kWindow;
  for (std::size_t i = 0; impl.welcomes < impl.options.connections;) {
    if (!impl.refusal.ok()) return impl.refusal;
    if (now_us() >= until_us) {
      return {Code::kIo, "only " + std::to_string(impl.welcomes) + " of " +
                             std::to_string(impl.options.connections) +
                             " connections were welcomed in time"};
    }
    // The backlog of a listening socket is finite: no more than so many greetings at a time.
    constexpr std::size_t kAtOnce = 100;
    while (i < impl.options.connections && i < impl.welcomes + kAtOnce) {
      const Envelope envelope{impl.next_id, impl.options.model_hash,
                              static_cast<std::uint64_t>(now_us())};
      const std::string name = name_of(i);
      if (!transport::send(impl.socket, std::as_bytes(std::span(name)), encode(envelope, hello)))
        break;
      ++impl.next_id;
      ++i;
    }
    receive(std::min(until_us, now_us() + 1'000), [](const Answer&) {});
  }
  return {};
}

Result<std::size_t> Swarm::add_sample(const OffloadRequest& request) {
  const Envelope envelope{1, impl_->options.model_hash, 0};
  Infer infer;
  infer.layer = static_cast<std::uint32_t>(request.layer);
  infer.rows = static_cast<std::uint32_t>(request.shape.rows);
  infer.cols = static_cast<std::uint32_t>(request.shape.cols);
  infer.dtype = impl_->options.activation_dtype;
  infer.deadline_us = 1;
  Result<Frames> frames =
      request.activation.empty()
          ? encode_input(envelope, 1, static_cast<std::uint32_t>(request.input_kind),
                         request.input.length, request.input.bytes)
          : encode_activation(envelope, infer, request.activation);
  if (!frames.ok()) return frames.status();
  Impl::Sample sample;
  sample.header = frames->header;
  sample.payload = zmq::message_t(frames->payload.bytes().data(), frames->payload.size());
  impl_->samples.push_back(std::move(sample));
  return impl_->samples.size() - 1;
}

std::size_t Swarm::samples() const {
  return impl_->samples.size();
}

std::optional<std::uint64_t> Swarm::send(std::size_t connection, std::size_t number,
                                         std::uint64_t deadline_us) {
  Impl& impl = *impl_;
  Impl::Sample& sample = impl.samples[number];
  const std::uint64_t id = impl.next_id;
  restamp_infer(sample.header, id, deadline_us, static_cast<std::uint64_t>(now_us()));
  const std::string name = name_of(connection);
  zmq::message_t to(name.data(), name.size()), header(sample.header.data(), kHeaderBytes), payload;
  payload.copy(sample.payload);
  if (!send_part(impl.socket, to, ZMQ_SNDMORE)) return std::nullopt;
  if (!send_part(impl.socket, header, ZMQ_SNDMORE)) return std::nullopt;
  if (!send_part(impl.socket, payload, 0)) return std::nullopt;
  ++impl.next_id;
  return id;
}

void Swarm::receive(std::int64_t until_us, const std::function<void(const Answer&)>& report) {
  Impl& impl = *impl_;
  if (!impl.readable()) {
    const std::int64_t left_us = until_us - now_us();
    if (left_us > 0) {
      pollfd item{impl.socket.get(zmq::sockopt::fd), POLLIN, 0};
      const timespec timeout{left_us / 1'000'000, static_cast<long>(left_us % 1'000'000 * 1'000)};
      ppoll(&item, 1, &timeout, nullptr);
    }
  }
  Received received;
  while (transport::receive(impl.socket, received)) impl.handle(received, report);
}

}  // namespace splitee::transport
