#include "transport/client/connector.h"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "transport/zmq/socket.h"

namespace splitee::transport {
namespace {

constexpr std::size_t kRoutingIdBytes = 16;
// Requests that ZeroMQ keeps, beyond twice the window; what would wait beyond that is an attack or
// a bug. It frees places in batches of half, and wakes the other thread for each: so not too few.
constexpr int kHighWater = 16;

constexpr int kHourMs = 3'600'000;

constexpr int kEvents = ZMQ_EVENT_CONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_DISCONNECTED |
                        ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                        ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;

// The libzmq peers know a connection by this; never reused, so that a message for an old
// connection cannot reach a new one. It says nothing about who we are. Ids that begin with a zero
// byte are ZeroMQ's own.
std::string random_routing_id(std::random_device& random) {
  std::string id;
  while (id.size() < kRoutingIdBytes) id += static_cast<char>(1 + random() % 255);
  return id;
}

zmq::socket_t make_dealer(zmq::context_t& context, const ClientOptions& options,
                          std::random_device& random) {
  using namespace zmq::sockopt;
  zmq::socket_t socket(context, zmq::socket_type::dealer);
  configure(socket, kMaxAnswerBytes, kHighWater + 2 * static_cast<int>(options.window));
  socket.set(routing_id, random_routing_id(random));
  // Nothing is sent before the handshake is done. (With this on, what has arrived and is not read
  // yet is lost when a connection ends.)
  socket.set(immediate, 0);
  socket.set(connect_timeout, static_cast<int>(options.connect_timeout_ms));
  socket.set(handshake_ivl, static_cast<int>(options.connect_timeout_ms));
  // Every attempt is one: what comes after it, and when, is decided elsewhere. (Told never to
  // reconnect, ZeroMQ drops what has arrived, too.)
  socket.set(reconnect_ivl, kHourMs);
  socket.set(ipv6, 1);
  if (options.curve) {
    socket.set(curve_serverkey, options.curve->server_key);
    socket.set(curve_publickey, options.curve->public_key);
    socket.set(curve_secretkey, options.curve->secret_key);
  }
  return socket;
}

// A status of ZAP (ZeroMQ RFC 27).
std::string refusal_of_key(std::uint32_t status, const ClientOptions& options) {
  const std::string key = options.curve ? options.curve->public_key : "";
  if (status == 400) {
    return "the server does not let this edge's key " + key +
           " in (400): is it on the list of authorized keys?";
  }
  return "the server lets no more connections of this edge's key in (" + std::to_string(status) +
         ")";
}

std::string protocol_problem(std::uint32_t error, bool with_keys) {
  if (error == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH) {
    return with_keys ? "the server has no keys, and this edge has"
                     : "the server asks for keys (CURVE), and this edge has none";
  }
  return "what answers there does not speak ZeroMQ's protocol";
}

}  // namespace

Connection::Connection(zmq::context_t& context, const ClientOptions& options,
                       std::random_device& random)
    : channel(make_dealer(context, options, random)), monitor(context, channel.socket(), kEvents) {}

Connection::~Connection() {
  stop_monitor(channel.socket());
}

bool Connection::watch_for_end(zmq::context_t& context) {
  // The new one first, so that no event is told to neither.
  Monitor before =
      std::exchange(monitor, Monitor(context, channel.socket(), ZMQ_EVENT_DISCONNECTED));
  while (const std::optional<MonitorEvent> event = before.next()) {
    if (event->event == ZMQ_EVENT_DISCONNECTED) return false;
  }
  return true;
}

Connector::Connector(zmq::context_t& context, const ClientOptions& options, std::string endpoint,
                     Resolver& resolver, std::random_device& random)
    : context_(context),
      options_(options),
      endpoint_(std::move(endpoint)),
      resolver_(resolver),
      random_(random) {
  if (!is_numeric_endpoint(endpoint_)) return;
  resolved_ = true;
  addresses_.push_back(endpoint_);
}

void Connector::take_addresses() {
  if (resolved_) return;
  const std::unique_ptr<Addresses> found = resolver_.poll(endpoint_);
  if (!found) return;
  resolved_ = true;
  if (found->ok()) {
    addresses_.assign((*found)->begin(), (*found)->end());
  } else {
    problem_ = found->status().message();
    refused_ = true;
  }
}

void Connector::start_next(std::int64_t now_us) {
  Attempt attempt;
  attempt.address = std::move(addresses_.front());
  addresses_.pop_front();
  attempt.connection = std::make_unique<Connection>(context_, options_, random_);
  attempt.connection->channel.socket().connect(attempt.address);
  attempts_.push_back(std::move(attempt));
  next_start_us_ = now_us + kStaggerUs;
}

std::unique_ptr<Connection> Connector::step(std::int64_t now_us) {
  take_addresses();
  for (auto attempt = attempts_.begin(); attempt != attempts_.end();) {
    const Progress progress = look_at(*attempt);
    if (progress == Progress::kDone) return std::move(attempt->connection);
    attempt = progress == Progress::kFailed ? attempts_.erase(attempt) : std::next(attempt);
  }
  while (!addresses_.empty() && attempts_.size() < kMostAttempts &&
         (attempts_.empty() || now_us >= next_start_us_)) {
    start_next(now_us);
  }
  failed_ = resolved_ && addresses_.empty() && attempts_.empty();
  return nullptr;
}

Connector::Progress Connector::look_at(Attempt& attempt) {
  Monitor& monitor = attempt.connection->monitor;
  if (!monitor.channel().pending()) return Progress::kNone;
  while (const std::optional<MonitorEvent> event = monitor.next()) {
    switch (event->event) {
      case ZMQ_EVENT_CONNECTED:
        attempt.connected = true;
        break;
      case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        return attempt.connection->watch_for_end(context_) ? Progress::kDone : Progress::kFailed;
      case ZMQ_EVENT_DISCONNECTED:
        return Progress::kFailed;
      case ZMQ_EVENT_CLOSED:
        if (attempt.connected) break;
        problem_ = "cannot connect to " + attempt.address;
        return Progress::kFailed;
      default:
        note(attempt, *event);
    }
  }
  return Progress::kNone;
}

void Connector::note(const Attempt& attempt, const MonitorEvent& event) {
  refused_ = true;
  switch (event.event) {
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      problem_ = refusal_of_key(event.value, options_);
      break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
      problem_ = protocol_problem(event.value, options_.curve.has_value());
      break;
    default:
      if (event.value != EPIPE && event.value != ECONNRESET) {
        problem_ = "no answer to the handshake from " + attempt.address;
        refused_ = false;
      } else if (options_.curve) {
        problem_ =
            "the server ended the handshake: is the server key its own (or has it no keys), and "
            "the secret key that of the public key?";
      } else {
        // Which side finds out first that only one has keys is a matter of luck; what an address
        // before this one has said stays.
        if (problem_.empty()) {
          problem_ =
              "the server ended the handshake, as one does that asks for keys (CURVE), and this "
              "edge has none";
        }
        refused_ = false;
      }
  }
}

std::string Connector::problem() const {
  if (!problem_.empty()) return problem_;
  if (!resolved_) return "the name is still being looked up";
  return attempts_.empty() ? "cannot connect" : "cannot connect to " + attempts_.back().address;
}

std::int64_t Connector::next_event_us() const {
  const bool may_start = !addresses_.empty() && attempts_.size() < kMostAttempts;
  return may_start ? next_start_us_ : std::numeric_limits<std::int64_t>::max();
}

void Connector::add_channels(std::vector<Channel*>& channels) {
  for (const Attempt& attempt : attempts_)
    channels.push_back(&attempt.connection->monitor.channel());
}

}  // namespace splitee::transport
