#include "transport/client.h"

#include <algorithm>
#include <random>

#include "transport/channel.h"
#include "transport/client_core.h"
#include "transport/endpoint.h"
#include "transport/socket.h"

namespace splitee::transport {
namespace {

using runtime::Code;
using runtime::Result;
using runtime::Status;

constexpr std::size_t kRoutingIdBytes = 16;
// Requests that ZeroMQ keeps, beyond twice the window; what would wait beyond that is an attack or
// a bug. It frees places in batches of half, and wakes the other thread for each: so not too few.
constexpr int kHighWater = 16;
// Between attempts of one socket to connect.
constexpr std::uint32_t kReconnectMostMs = 1'000;

// The libzmq peers know a connection by this; never reused, so that a message for an old
// connection cannot reach a new one. It says nothing about who we are. Ids that begin with a zero
// byte are ZeroMQ's own.
std::string random_routing_id(std::random_device& random) {
  std::string id;
  while (id.size() < kRoutingIdBytes) id += static_cast<char>(1 + random() % 255);
  return id;
}

Status check_options(const ClientOptions& options) {
  const auto bad = [](const std::string& what) { return Status{Code::kInvalidArgument, what}; };
  if (options.endpoints.empty()) return bad("no server endpoint");
  for (const std::string& endpoint : options.endpoints) {
    if (Status status = check_endpoint(endpoint); !status.ok()) return status;
  }
  const Dtype dtype = options.activation_dtype;
  if (dtype != Dtype::kF32 && dtype != Dtype::kF16 && dtype != Dtype::kI8) {
    return bad("activation type is none of f32, f16, i8");
  }
  if (options.window == 0 || options.window > kMaxWindow) return bad("window of no requests");
  if (!(options.retry_share >= 0 && options.retry_share <= 1)) return bad("share of retries");
  if (options.reconnect_min_ms == 0 || options.reconnect_max_ms < options.reconnect_min_ms) {
    return bad("reconnection times are not 0 < min <= max");
  }
  if (!options.curve) return {};
  if (!decode_curve_key(options.curve->public_key)) return bad("public key is not a CURVE key");
  if (!decode_curve_key(options.curve->secret_key)) return bad("secret key is not a CURVE key");
  if (!decode_curve_key(options.curve->server_key)) return bad("server key is not a CURVE key");
  return {};
}

}  // namespace

struct Client::Impl : Network {
  struct Connection {
    Channel channel;
    Channel monitor;  // tells when the peer is gone, long before a deadline would
  };

  explicit Impl(const ClientOptions& client_options)
      : options(client_options), connections(options.endpoints.size()), core(options, *this) {}
  ~Impl() override {
    for (std::size_t link = 0; link < connections.size(); ++link) close(link);
  }

  void open(std::size_t link) override;
  void close(std::size_t link) override;
  bool send(std::size_t link, Frames frames) override;

  // Waits for a message or the core's next event, at most until `until_us`, and handles both.
  void step(std::int64_t until_us);
  // Handles what is there, without waiting.
  void handle_ready();
  // Whether anything was there.
  bool receive_pending();
  bool can_greet();
  std::vector<Channel*> channels();
  static Channel make_monitor(zmq::context_t& context, zmq::socket_t& socket, std::uint64_t number);
  // Until something may be there or one of `others` is ready.
  void wait_for_event(std::int64_t until_us, std::span<pollfd> others = {});

  ClientOptions options;
  Status open_error;  // the last one
  std::random_device random;
  zmq::context_t context{1};
  std::vector<std::optional<Connection>> connections;
  std::uint64_t opened = 0;
  ClientCore core;
  Received received;
};

void Client::Impl::open(std::size_t link) {
  try {
    using namespace zmq::sockopt;
    zmq::socket_t socket(context, zmq::socket_type::dealer);
    configure(socket, kMaxAnswerBytes, kHighWater + 2 * static_cast<int>(options.window));
    socket.set(routing_id, random_routing_id(random));
    // Without it messages queue up for a server that is not there.
    socket.set(immediate, 1);
    socket.set(connect_timeout, static_cast<int>(options.hello_timeout_ms));
    socket.set(handshake_ivl, static_cast<int>(options.connect_timeout_ms));
    // Within one attempt ZeroMQ reconnects, with its own back-off (off by default) and jitter;
    // between attempts the core does.
    socket.set(reconnect_ivl, static_cast<int>(options.reconnect_min_ms));
    socket.set(reconnect_ivl_max,
               static_cast<int>(std::min(kReconnectMostMs, options.reconnect_max_ms)));
    socket.set(ipv6, 1);
    if (options.curve) {
      socket.set(curve_serverkey, options.curve->server_key);
      socket.set(curve_publickey, options.curve->public_key);
      socket.set(curve_secretkey, options.curve->secret_key);
    }
    Channel monitor = make_monitor(context, socket, opened++);
    connections[link] = Connection{Channel(std::move(socket)), std::move(monitor)};
    connections[link]->channel.socket().connect(options.endpoints[link]);
  } catch (const std::exception& error) {
    close(link);
    open_error = {Code::kInvalidArgument, options.endpoints[link] + ": " + error.what()};
  }
}

Channel Client::Impl::make_monitor(zmq::context_t& context, zmq::socket_t& socket,
                                   std::uint64_t number) {
  const std::string address = "inproc://monitor-" + std::to_string(number);
  if (zmq_socket_monitor(socket.handle(), address.c_str(), ZMQ_EVENT_DISCONNECTED) != 0) {
    throw zmq::error_t();
  }
  zmq::socket_t monitor(context, ZMQ_PAIR);
  monitor.connect(address);
  return Channel(std::move(monitor));
}

void Client::Impl::close(std::size_t link) {
  if (!connections[link]) return;
  // Before the monitor goes: ZeroMQ's own thread would wait for ever to tell it of one more event,
  // and with it every connection would stand still.
  zmq_socket_monitor(connections[link]->channel.socket().handle(), nullptr, 0);
  connections[link].reset();
}

bool Client::Impl::send(std::size_t link, Frames frames) {
  return connections[link] && connections[link]->channel.send({}, std::move(frames));
}

std::vector<Channel*> Client::Impl::channels() {
  std::vector<Channel*> all;
  all.reserve(2 * connections.size());
  for (std::optional<Connection>& connection : connections) {
    if (!connection) continue;
    all.push_back(&connection->channel);
    all.push_back(&connection->monitor);
  }
  return all;
}

bool Client::Impl::receive_pending() {
  bool any = false;
  for (std::size_t link = 0; link < connections.size(); ++link) {
    if (!connections[link]) continue;
    // Asked first: what came in before the peer went is still read below.
    bool lost = false;
    Channel& monitor = connections[link]->monitor;
    while (monitor.pending() && monitor.receive(received)) lost = true;
    bool pending = lost || connections[link]->channel.pending();
    // The core may close the connection over what it receives.
    while (pending && connections[link] && connections[link]->channel.receive(received)) {
      core.receive(link, received.frames(), now_us());
      any = true;
    }
    if (lost) core.disconnected(link, now_us());
    any = any || lost;
  }
  return any;
}

void Client::Impl::handle_ready() {
  transport::wait(channels(), {}, 0);
  receive_pending();
  core.tick(now_us());
}

// Whether the core waits for a connection that is there by now.
bool Client::Impl::can_greet() {
  for (std::size_t link = 0; link < connections.size(); ++link) {
    if (!connections[link] || !core.connecting(link)) continue;
    if ((connections[link]->channel.socket().get(zmq::sockopt::events) & ZMQ_POLLOUT) != 0) {
      return true;
    }
  }
  return false;
}

void Client::Impl::wait_for_event(std::int64_t until_us, std::span<pollfd> others) {
  // Sending has left channels pending.
  if (receive_pending() || can_greet()) return;
  const std::int64_t next_us = std::min(until_us, core.next_event_us());
  transport::wait(channels(), others, std::max<std::int64_t>(0, next_us - now_us()));
}

void Client::Impl::step(std::int64_t until_us) {
  wait_for_event(until_us);
  receive_pending();
  core.tick(now_us());
}

Client::Client() = default;
Client::~Client() = default;

Result<std::unique_ptr<Client>> Client::create(const ClientOptions& options) {
  if (Status status = check_options(options); !status.ok()) return status;
  std::unique_ptr<Client> client(new Client);
  try {
    ClientOptions own = options;
    if (own.seed == 0) own.seed = std::random_device{}();
    client->impl_ = std::make_unique<Impl>(own);
    client->impl_->handle_ready();
  } catch (const std::exception& error) {
    return Status{Code::kIo, std::string("cannot start the link: ") + error.what()};
  }
  if (!client->impl_->open_error.ok()) return client->impl_->open_error;
  return client;
}

bool Client::available() {
  impl_->handle_ready();
  return impl_->core.available();
}

bool Client::ready() {
  impl_->handle_ready();
  return impl_->core.ready();
}

bool Client::wait_available(std::int64_t timeout_us) {
  const std::int64_t until_us = now_us() + timeout_us;
  while (!available()) {
    if (now_us() >= until_us) return false;
    impl_->wait_for_event(until_us);
  }
  return true;
}

Client::Ticket Client::submit(const OffloadRequest& request, std::int64_t deadline_us) {
  impl_->handle_ready();
  return impl_->core.submit(request, deadline_us, now_us());
}

std::optional<Client::Completion> Client::poll(std::int64_t timeout_us) {
  const std::int64_t until_us = now_us() + timeout_us;
  impl_->handle_ready();
  for (;;) {
    if (auto completion = impl_->core.take_oldest()) return completion;
    if (impl_->core.in_flight() == 0 || now_us() >= until_us) return std::nullopt;
    impl_->step(until_us);
  }
}

void Client::wait(std::span<const int> fds, std::int64_t timeout_us) {
  const std::int64_t until_us = now_us() + timeout_us;
  std::vector<pollfd> others;
  for (const int fd : fds) others.push_back({fd, POLLIN, 0});
  const auto readable = [](const pollfd& item) { return item.revents != 0; };
  impl_->handle_ready();
  transport::wait({}, others, 0);
  while (!impl_->core.has_outcome()) {
    if (std::any_of(others.begin(), others.end(), readable) || now_us() >= until_us) return;
    impl_->wait_for_event(until_us, others);
    impl_->receive_pending();
    impl_->core.tick(now_us());
  }
}

std::optional<Client::Ticket> Client::retry(const OffloadRequest& request,
                                            const OffloadOutcome& failed,
                                            std::int64_t deadline_us) {
  impl_->handle_ready();
  return impl_->core.retry(request, failed, deadline_us, now_us());
}

std::optional<LinkProbe> Client::take_probe() {
  return impl_->core.take_probe();
}

OffloadOutcome Client::offload(const OffloadRequest& request, std::int64_t deadline_us) {
  const Ticket ticket = submit(request, deadline_us);
  for (;;) {
    if (auto outcome = impl_->core.take(ticket)) return std::move(*outcome);
    // Ends at the latest with the expiry of the request, which is an event of the core.
    impl_->step(impl_->core.next_event_us());
  }
}

std::string Client::last_problem() const {
  return impl_->core.last_problem();
}

const ClientCounters& Client::counters() const {
  return impl_->core.counters();
}

}  // namespace splitee::transport
