#include "transport/client/client.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <random>
#include <thread>

#include "transport/client/client_core.h"
#include "transport/client/connector.h"
#include "transport/zmq/channel.h"
#include "transport/zmq/endpoint.h"
#include "transport/zmq/resolver.h"
#include "transport/zmq/socket.h"

namespace splitee::transport {
namespace {

constexpr std::chrono::milliseconds kOutOfMemoryPause(5);

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

struct Client::Impl : Connections {
  // One of the two, or neither.
  struct Place {
    std::optional<Connector> connector;
    std::unique_ptr<Connection> connection;
  };

  explicit Impl(const ClientOptions& client_options)
      : options(client_options),
        resolver(options.lookup ? options.lookup : resolve_now),
        places(options.endpoints.size()),
        core(options, *this) {}

  void open(std::size_t link) override;
  void close(std::size_t link) override;
  bool send(std::size_t link, Frames frames) override;
  std::string problem(std::size_t link) const override;

  // Waits for a message or the core's next event, at most until `until_us`, and handles both.
  void step(std::int64_t until_us);
  // Handles what is there, without waiting.
  void handle_ready() { handle(/*look=*/true); }
  // `look`: for what has come since the last wait.
  void handle(bool look);
  // Whether anything was there.
  bool receive_pending();
  bool receive_from(std::size_t link);
  // Whether a connection is there now, or has failed.
  bool move_on(std::size_t link);
  std::vector<Channel*> channels();
  // Until something may be there or one of `others` is ready.
  void wait_for_event(std::int64_t until_us, std::span<pollfd> others = {});
  void wait_in_memory(std::int64_t until_us, std::span<pollfd> others);

  ClientOptions options;
  std::random_device random;
  zmq::context_t context{1};
  Resolver resolver;
  std::vector<Place> places;
  bool opened = false;  // one of them, just now
  ClientCore core;
  Received received;
};

void Client::Impl::open(std::size_t link) {
  places[link].connection.reset();
  opened = true;
  places[link].connector.emplace(context, options, options.endpoints[link], resolver, random);
}

void Client::Impl::close(std::size_t link) {
  places[link].connector.reset();
  places[link].connection.reset();
}

std::string Client::Impl::problem(std::size_t link) const {
  return places[link].connector ? places[link].connector->problem() : std::string();
}

bool Client::Impl::send(std::size_t link, Frames frames) {
  Connection* const connection = places[link].connection.get();
  return connection != nullptr && connection->channel.send({}, std::move(frames));
}

std::vector<Channel*> Client::Impl::channels() {
  std::vector<Channel*> all;
  all.reserve(2 * places.size());
  for (Place& place : places) {
    if (place.connector) place.connector->add_channels(all);
    if (!place.connection) continue;
    all.push_back(&place.connection->channel);
    all.push_back(&place.connection->monitor.channel());
  }
  return all;
}

bool Client::Impl::move_on(std::size_t link) {
  Place& place = places[link];
  std::string problem;
  bool refused = false;
  try {
    place.connection = place.connector->step(now_us());
    if (!place.connection && !place.connector->failed()) return false;
    problem = place.connector->problem();
    refused = place.connector->refused();
  } catch (const std::exception& error) {
    problem = std::string("cannot connect: ") + error.what();
  }
  place.connector.reset();
  if (!place.connection) core.connect_failed(link, std::move(problem), refused, now_us());
  return true;
}

bool Client::Impl::receive_from(std::size_t link) {
  // Asked first: what came in before the peer went is still read below.
  bool any = false, lost = false;
  Monitor& monitor = places[link].connection->monitor;
  while (monitor.channel().pending()) {
    const std::optional<MonitorEvent> event = monitor.next();
    lost = lost || (event && event->event == ZMQ_EVENT_DISCONNECTED);
  }
  bool pending = lost || places[link].connection->channel.pending();
  // The core may close the connection over what it receives.
  while (pending && places[link].connection && places[link].connection->channel.receive(received)) {
    core.receive(link, received.frames(), now_us());
    any = true;
  }
  // Before the hello could be sent it is an attempt that has failed.
  if (lost) core.connect_failed(link, "connection lost", /*refused=*/false, now_us());
  if (lost) core.disconnected(link, now_us());
  return any || lost;
}

bool Client::Impl::receive_pending() {
  bool any = false;
  for (std::size_t link = 0; link < places.size(); ++link) {
    if (places[link].connector && move_on(link)) any = true;
    if (places[link].connection && receive_from(link)) any = true;
  }
  return any;
}

void Client::Impl::handle(bool look) {
  try {
    if (look) transport::wait(channels(), {}, 0);
    receive_pending();
    core.tick(now_us());
    // What the core has opened just now begins at once.
    if (opened) receive_pending();
  } catch (const std::bad_alloc&) {
    // A message is lost: its request ends at its deadline, and its sample is finished on the edge.
  }
  opened = false;
}

void Client::Impl::wait_for_event(std::int64_t until_us, std::span<pollfd> others) {
  try {
    wait_in_memory(until_us, others);
  } catch (const std::bad_alloc&) {
    std::this_thread::sleep_for(kOutOfMemoryPause);
  }
}

void Client::Impl::wait_in_memory(std::int64_t until_us, std::span<pollfd> others) {
  // Sending has left channels pending.
  if (receive_pending()) return;
  std::int64_t next_us = std::min(until_us, core.next_event_us());
  std::vector<pollfd> all(others.begin(), others.end());
  for (const Place& place : places) {
    if (!place.connector) continue;
    next_us = std::min(next_us, place.connector->next_event_us());
    if (all.size() == others.size()) all.push_back({resolver.fd(), POLLIN, 0});
  }
  transport::wait(channels(), all, std::max<std::int64_t>(0, next_us - now_us()));
  std::copy_n(all.begin(), others.size(), others.begin());
}

void Client::Impl::step(std::int64_t until_us) {
  wait_for_event(until_us);
  handle(/*look=*/false);
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

RequestId Client::submit(const OffloadRequest& request, std::int64_t deadline_us) {
  impl_->handle_ready();
  return impl_->core.submit(request, deadline_us, now_us());
}

std::optional<Completion> Client::poll(std::int64_t timeout_us) {
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
    impl_->handle(/*look=*/false);
  }
}

std::optional<RequestId> Client::retry(const OffloadRequest& request, const OffloadOutcome& failed,
                                       std::int64_t deadline_us) {
  impl_->handle_ready();
  return impl_->core.retry(request, failed, deadline_us, now_us());
}

std::optional<LinkProbe> Client::take_probe() {
  return impl_->core.take_probe();
}

OffloadOutcome Client::offload(const OffloadRequest& request, std::int64_t deadline_us) {
  const RequestId request_id = submit(request, deadline_us);
  for (;;) {
    if (auto outcome = impl_->core.take(request_id)) return std::move(*outcome);
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
