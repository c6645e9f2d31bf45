#include "transport/server/front.h"

#include <algorithm>
#include <memory>
#include <set>
#include <utility>

#include "transport/zmq/socket.h"

namespace splitee::transport {
namespace {

// Answers that ZeroMQ keeps per peer, beyond twice the window (it frees places in batches of half);
// they are small.
constexpr int kHighWater = 16;
// Of a whole message beyond its longest frame: header, ZeroMQ's and CURVE's framing, heartbeats.
constexpr std::uint64_t kMessageSlackBytes = 256 << 10;
// Of what one edge may have sent and is not read yet, beyond a full window.
constexpr std::uint64_t kUnreadSlackBytes = 4 << 20;
// What ZeroMQ adds to a short part: flags and size; with CURVE a command's name, nonce and tag too.
constexpr std::uint64_t kPartBytes = 2, kCurvePartBytes = kPartBytes + 33;
// Without keys a part may be two bytes on the wire and 64 in memory; with CURVE it is 35 at least.
constexpr std::uint64_t kUnkeyedShare = 8;
constexpr std::uint64_t kFewestUnfinished = 4;  // of the longest messages
// What ZeroMQ keeps of a connection that behaves: two pipes, decoder, encoder, session.
constexpr std::uint64_t kConnectionBytes = 64 << 10;
constexpr std::int64_t kCheckUs = 50'000;
// ZeroMQ frees what a socket kept in a thread of its own: not before the first of them, and by the
// second unless the machine is very busy.
constexpr std::int64_t kRenewUs = 100'000, kFreedUs = 2'000'000;
// Connections that ZeroMQ does not close (ConnectionGuard::stuck()): with so many the socket is
// replaced, though all edges connect anew then.
constexpr std::size_t kMostStuck = 4;
// Until this long after connections have come or gone, and this long after much was unfinished,
// free pages go back to the system, as often: while much is on its way they would only be asked for
// again. What comes and goes between two looks at the bytes is counted in neither.
constexpr std::int64_t kTrimUs = 1'000'000;

std::set<std::string> decode_keys(const std::vector<std::string>& keys) {
  std::set<std::string> decoded;
  for (const std::string& key : keys) decoded.insert(decode_curve_key(key).value());
  return decoded;
}

std::int64_t microseconds(std::uint32_t ms) {
  return std::int64_t{ms} * 1'000;
}

}  // namespace

Front::Front(const ServerOptions& options, std::int64_t frame_limit, ServerCounters& counters,
             Notices& notices)
    : options_(options),
      frame_limit_(frame_limit),
      counters_(counters),
      notices_(notices),
      book_(options.max_key_connections,
            microseconds(options.silent_ms) + microseconds(options.handshake_ms)) {}

void Front::set_flush(int flush_ms) noexcept {
  // Without exceptions, hence the C call.
  zmq_setsockopt(channel_->socket().handle(), ZMQ_LINGER, &flush_ms, sizeof flush_ms);
}

void Front::open(Listener listener) {
  listener_ = std::move(listener);
  if (options_.curve) {
    ZapHandler::Rules rules;
    rules.allowed = decode_keys(options_.curve->authorized_keys);
    rules.book = &book_;
    rules.notice = [this](const std::string& text) { notices_.tell(text, now_us()); };
    zap_.emplace(context_, std::move(rules), counters_);
  }
  open_socket();
}

void Front::open_socket() {
  using namespace zmq::sockopt;
  zmq::socket_t socket(context_, zmq::socket_type::router);
  configure(socket, frame_limit_, kHighWater + 2 * static_cast<int>(options_.max_window));
  // A half-open handshake gives its place back soon (default 30 s).
  socket.set(handshake_ivl, static_cast<int>(options_.handshake_ms));
  // Without it an answer to a peer that is gone or does not read vanishes silently.
  socket.set(router_mandatory, 1);
  // A second connection with a routing id in use is turned away, not given the first one's answers.
  // Letting it take over would leave the first one's descriptor open for ever.
  socket.set(router_handover, 0);
  socket.set(ipv6, 1);
  // The edges' heartbeats tell how long to wait for the next one. With heartbeats of its own ZeroMQ
  // ends the process where a connection goes while its socket is being closed (issue 3937).
  socket.set(heartbeat_ivl, 0);
  secure(socket);
  auto channel = std::make_unique<Channel>(std::move(socket));
  auto guard =
      std::make_unique<ConnectionGuard>(context_, channel->socket(), limits(), book_, counters_);
  listener_.lend_to(channel->socket());
  // The guard goes before what it watches.
  guard_ = std::move(guard);
  channel_ = std::move(channel);
}

void Front::secure(zmq::socket_t& socket) {
  using namespace zmq::sockopt;
  if (!options_.curve) return;
  socket.set(curve_server, 1);
  socket.set(curve_publickey, options_.curve->public_key);
  socket.set(curve_secretkey, options_.curve->secret_key);
  socket.set(zap_domain, kZapDomain);
}

ConnectionGuard::Limits Front::limits() const {
  const auto longest = static_cast<std::uint64_t>(frame_limit_);
  ConnectionGuard::Limits limits;
  limits.max_connections = options_.max_connections;
  limits.max_message_bytes = longest + kMessageSlackBytes;
  limits.max_unfinished_bytes =
      std::max(kFewestUnfinished * limits.max_message_bytes,
               options_.max_queue_bytes / (options_.curve ? 1 : kUnkeyedShare));
  limits.max_unread_bytes = options_.max_window * longest + kUnreadSlackBytes;
  limits.framing_bytes = options_.curve ? kCurvePartBytes : kPartBytes;
  limits.silent_us = microseconds(options_.silent_ms);
  return limits;
}

bool Front::receive(Received& message) {
  const bool received = channel_->receive(message);
  guard_->drained(!received);
  if (!received) return false;
  // ZeroMQ tells of a connection before it hands over what came over it.
  update_connections(now_us());
  guard_->delivered(message, user_of(message));
  return true;
}

const char* Front::user_of(Received& message) {
  const char* user = zmq_msg_gets(message.parts.back().handle(), "User-Id");
  return user != nullptr ? user : "";
}

void Front::update_connections(std::int64_t now_us) {
  if (!guard_->update(now_us)) return;
  check_due_ = true;
  changed_us_ = now_us;
}

void Front::look_after(std::int64_t now_us, std::uint64_t accounted_bytes) {
  if (guard_->channel().pending()) update_connections(now_us);
  guard_->scan(now_us);
  for (const std::string& failure : guard_->take_failures()) notices_.tell(failure, now_us);
  if (now_us < next_check_us_) return;
  next_check_us_ = now_us + kCheckUs;
  check_due_ = guard_->next_scan_us() >= 0;
  if (guard_->unfinished_bytes() > kLeftBytes / ConnectionGuard::kWorstGrowth) {
    changed_us_ = trimmed_us_ = now_us;
  }
  if (trim_due() && now_us >= trimmed_us_ + kTrimUs) {
    trimmed_us_ = now_us;
    trim_heap();
  }
  if (guard_->stuck() >= kMostStuck) {
    return renew("connections with damaged messages stay open; all are closed to free them",
                 now_us);
  }
  if (guard_->left_something() || renewed_us_ != 0) check_heap(now_us, accounted_bytes);
}

bool Front::trim_due() const {
  return trimmed_us_ < changed_us_ + kTrimUs;
}

std::int64_t Front::next_look_us() const {
  const bool check = renewed_us_ != 0 || trim_due() || (check_due_ && guard_->left_something());
  const std::int64_t scan_us = guard_->next_scan_us();
  if (!check) return scan_us;
  return scan_us < 0 ? next_check_us_ : std::min(scan_us, next_check_us_);
}

void Front::check_heap(std::int64_t now_us, std::uint64_t accounted_bytes) {
  const std::uint64_t accounted = accounted_bytes + counters_.connections * kConnectionBytes +
                                  guard_->unfinished_bytes() * ConnectionGuard::kWorstGrowth;
  const bool overgrown = heap_.overgrown(accounted, kLeftBytes);
  if (overgrown && guard_->left_something()) {
    return renew(
        "connections that share a routing id have left memory behind; all connections are closed "
        "to free it",
        now_us);
  }
  if (overgrown && now_us < renewed_us_ + kFreedUs) return;
  // What is there though nothing was left behind is the server's own, such as another model's.
  if (overgrown) heap_.rebase();
  renewed_us_ = 0;
}

// Frees what the socket keeps. Edges connect anew by themselves, and finish what was under way.
void Front::renew(const char* why, std::int64_t now_us) {
  notices_.tell(why, now_us);
  open_socket();
  ++counters_.renewals;
  renewed_us_ = changed_us_ = now_us;
  next_check_us_ = now_us + kRenewUs;
}

}  // namespace splitee::transport
