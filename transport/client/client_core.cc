#include "transport/client/client_core.h"

#include <algorithm>
#include <limits>

#include "base/hash.h"

namespace splitee::transport {
namespace {

// A server may be busy for a moment; from this refusal on it gets a rest.
constexpr std::uint32_t kBusyLimit = 3;
constexpr const char* kNotYet = "not connected yet";
constexpr std::uint32_t kAbsentMostMs = 1'000;  // between attempts to reach who is not there

std::int64_t ms(std::uint32_t value) {
  return std::int64_t{value} * 1'000;
}

std::string refusal_text(const Refusal& refusal) {
  std::string text(to_string(refusal.code));
  if (!refusal.text.empty()) text += ": " + refusal.text;
  return text;
}

}  // namespace

ClientCore::ClientCore(const ClientOptions& options, Connections& connections)
    : options_(options),
      connections_(connections),
      links_(options.endpoints.size()),
      jitter_(options.seed),
      retries_(options.retry_share) {
  for (Link& link : links_) link.problem = kNotYet;
}

bool ClientCore::usable(const Link& link) const {
  return link.state == Link::State::kReady &&
         link.in_flight < std::min<std::size_t>(options_.window, link.welcome.window);
}

bool ClientCore::available() const {
  return std::any_of(links_.begin(), links_.end(), [this](const Link& l) { return usable(l); });
}

bool ClientCore::ready() const {
  return std::any_of(links_.begin(), links_.end(),
                     [](const Link& l) { return l.state == Link::State::kReady; });
}

bool ClientCore::connecting(std::size_t link) const {
  return links_[link].state == Link::State::kConnecting;
}

Envelope ClientCore::envelope(std::int64_t now_us) {
  return {next_id_++, options_.model_hash, static_cast<std::uint64_t>(now_us)};
}

// Half of the time is fixed, half random, so that edges which lost one server together do not come
// back together.
std::int64_t ClientCore::backoff_us(std::uint32_t step, std::uint32_t most_ms) {
  const std::int64_t most = ms(std::min(most_ms, options_.reconnect_max_ms));
  const std::int64_t base = std::min(most, ms(options_.reconnect_min_ms) << std::min(step, 20u));
  const auto half = static_cast<std::uint64_t>(base / 2);
  return base - static_cast<std::int64_t>(jitter_.uniform() * static_cast<double>(half + 1));
}

std::int64_t ClientCore::slow_retry_us() {
  return backoff_us(20);
}

void ClientCore::tick(std::int64_t now_us) {
  expire_requests(now_us);
  for (std::size_t i = 0; i < links_.size(); ++i) advance(i, now_us);
}

std::int64_t ClientCore::next_event_us() const {
  std::int64_t next = std::numeric_limits<std::int64_t>::max();
  for (const Link& link : links_) {
    next = std::min(next, link.state == Link::State::kReady ? ping_us(link) : link.next_us);
  }
  for (const auto& [id, pending] : pending_) next = std::min(next, pending.expires_us);
  return next;
}

void ClientCore::expire_requests(std::int64_t now_us) {
  std::vector<bool> timed_out(links_.size(), false);
  for (auto it = pending_.begin(); it != pending_.end();) {
    const auto current = it++;
    if (current->second.expires_us > now_us) continue;
    timed_out[current->second.link] = true;
    ++counters_.timeouts;
    finish(current, Kind::kTimeout, "no answer in time", now_us);
  }
  for (std::size_t i = 0; i < links_.size(); ++i) {
    Link& link = links_[i];
    if (!timed_out[i] || link.state != Link::State::kReady) continue;
    link.problem = "no answer in time";
    // The first timeout may be a single slow sample: ask at once whether the server lives. One
    // that greets in time but then does not answer in time is rested longer and longer.
    if (++link.timeouts == 1) {
      greet_again(i, now_us);
    } else {
      pause(link, link.timeouts - 2, now_us);
    }
  }
}

void ClientCore::advance(std::size_t index, std::int64_t now_us) {
  Link& link = links_[index];
  switch (link.state) {
    case Link::State::kReady:
      keep_alive(index, now_us);
      break;
    case Link::State::kDown:
      if (now_us < link.next_us) break;
      ++counters_.probes;
      connections_.open(index);
      link.state = Link::State::kConnecting;
      link.next_us = now_us + ms(options_.connect_timeout_ms);
      [[fallthrough]];
    case Link::State::kConnecting:
      try_hello(index, now_us);
      if (link.state == Link::State::kConnecting && now_us >= link.next_us) {
        connect_failed(index, connections_.problem(index), /*refused=*/false, now_us);
      }
      break;
    case Link::State::kGreeting:
      if (now_us >= link.next_us) {
        drop(index, "no answer to hello", now_us + backoff_us(link.failures));
      }
      break;
    case Link::State::kPaused:
      if (now_us < link.next_us) break;
      ++counters_.probes;
      greet_again(index, now_us);
      break;
  }
}

// When a ready link has something to do about its pings.
std::int64_t ClientCore::ping_us(const Link& link) const {
  if (options_.ping_ms == 0) return std::numeric_limits<std::int64_t>::max();
  return link.ping_id != 0 ? link.asked_us + ms(options_.hello_timeout_ms)
                           : link.answered_us + ms(options_.ping_ms);
}

void ClientCore::keep_alive(std::size_t index, std::int64_t now_us) {
  Link& link = links_[index];
  if (now_us < ping_us(link)) return;
  if (link.ping_id != 0) {
    link.problem = "no answer to ping";
    return greet_again(index, now_us);
  }
  const Envelope ping{next_id_++, 0, static_cast<std::uint64_t>(now_us)};
  if (!connections_.send(index, encode(ping, Ping{})))
    return drop(index, "connection lost", now_us);
  link.ping_id = ping.request_id;
  link.asked_us = now_us;
}

void ClientCore::on_pong(std::size_t index, const Envelope& from, std::int64_t now_us) {
  Link& link = links_[index];
  if (link.ping_id == 0 || from.request_id != link.ping_id) return count_stray(from.request_id);
  link.ping_id = 0;
  link.answered_us = now_us;
  probe_ = LinkProbe{link.asked_us, now_us - link.asked_us, kHeaderBytes};
}

void ClientCore::try_hello(std::size_t index, std::int64_t now_us) {
  Link& link = links_[index];
  const Envelope hello = envelope(now_us);
  Hello body;
  link.ping_id = 0;
  link.asked_us = now_us;
  body.window = static_cast<std::uint32_t>(std::min<std::size_t>(options_.window, kMaxWindow));
  if (!connections_.send(index, encode(hello, body))) return;
  link.hello_id = hello.request_id;
  link.state = Link::State::kGreeting;
  link.next_us = now_us + ms(options_.hello_timeout_ms);
}

// A probe on the connection that is there: answers to requests in flight can still come.
void ClientCore::greet_again(std::size_t index, std::int64_t now_us) {
  links_[index].state = Link::State::kConnecting;
  try_hello(index, now_us);
  if (links_[index].state != Link::State::kGreeting) drop(index, "connection lost", now_us);
}

void ClientCore::pause(Link& link, std::uint32_t step, std::int64_t now_us) {
  link.state = Link::State::kPaused;
  link.next_us = now_us + backoff_us(step);
}

void ClientCore::drop(std::size_t index, std::string problem, std::int64_t retry_us) {
  Link& link = links_[index];
  connections_.close(index);
  link.state = Link::State::kDown;
  link.next_us = retry_us;
  link.problem = std::move(problem);
  ++link.failures;
  for (auto it = pending_.begin(); it != pending_.end();) {
    const auto current = it++;
    if (current->second.link != index) continue;
    const std::int64_t sent_us = current->second.sent_us;
    finish(current, Kind::kUnavailable, link.problem, sent_us).retryable = true;
  }
}

std::size_t ClientCore::find_usable(std::size_t avoid) const {
  for (std::size_t i = 0; i < links_.size(); ++i) {
    if (i != avoid && usable(links_[i])) return i;
  }
  return kNoLink;
}

RequestId ClientCore::fail(Kind kind, std::string reason) {
  OffloadOutcome& outcome = done_[next_id_];
  outcome.kind = kind;
  outcome.reason = std::move(reason);
  return next_id_++;
}

RequestId ClientCore::submit(const OffloadRequest& request, std::int64_t deadline_us,
                             std::int64_t now_us) {
  const std::size_t link = find_usable(kNoLink);
  if (link == kNoLink) return fail(Kind::kUnavailable, ready() ? "window full" : last_problem());
  if (deadline_us <= 0) return fail(Kind::kTimeout, "no time left to offload");
  retries_.add_request();
  return submit_to(link, request, deadline_us, now_us);
}

std::optional<RequestId> ClientCore::retry(const OffloadRequest& request,
                                           const OffloadOutcome& failed, std::int64_t deadline_us,
                                           std::int64_t now_us) {
  if (!failed.retryable || deadline_us <= 0) return std::nullopt;
  const std::size_t link = find_usable(failed.server);
  if (link == kNoLink || !retries_.take()) return std::nullopt;
  ++counters_.retries;
  return submit_to(link, request, deadline_us, now_us);
}

Result<Frames> ClientCore::encode_request(const OffloadRequest& request, const Link& link,
                                          const Envelope& sent, std::uint64_t time_us,
                                          Dtype& dtype) const {
  dtype = Dtype::kInput;
  if (request.activation.empty()) {
    return encode_input(sent, time_us, static_cast<std::uint32_t>(request.input_kind),
                        request.input.length, request.input.bytes);
  }
  dtype = request.activation_dtype;
  if (dtype == Dtype::kNone || (link.welcome.capabilities & capability(dtype)) == 0) {
    dtype = options_.activation_dtype;
  }
  Infer infer;
  infer.layer = static_cast<std::uint32_t>(std::min<std::size_t>(request.layer, UINT32_MAX));
  infer.rows = static_cast<std::uint32_t>(std::min<std::size_t>(request.shape.rows, UINT32_MAX));
  infer.cols = static_cast<std::uint32_t>(std::min<std::size_t>(request.shape.cols, UINT32_MAX));
  infer.dtype = dtype;
  infer.deadline_us = time_us;
  return encode_activation(sent, infer, request.activation);
}

RequestId ClientCore::submit_to(std::size_t index, const OffloadRequest& request,
                                std::int64_t deadline_us, std::int64_t now_us) {
  const auto time_us = std::min(static_cast<std::uint64_t>(deadline_us), kMaxDeadlineUs);
  Dtype dtype = Dtype::kNone;
  const Envelope sent{next_id_, options_.model_hash, static_cast<std::uint64_t>(now_us)};
  Result<Frames> frames = encode_request(request, links_[index], sent, time_us, dtype);
  if (!frames.ok()) return fail(Kind::kRefused, frames.status().message());
  const std::uint64_t bytes = frames->size();
  if (!connections_.send(index, std::move(*frames))) {
    drop(index, "connection lost", now_us);
    return fail(Kind::kUnavailable, "connection lost");
  }
  ++counters_.sent;
  counters_.bytes_sent += bytes;
  ++links_[index].in_flight;
  pending_[next_id_] = {index, now_us, now_us + static_cast<std::int64_t>(time_us), bytes, dtype};
  return next_id_++;
}

std::optional<OffloadOutcome> ClientCore::take(RequestId request_id) {
  const auto it = done_.find(request_id);
  if (it == done_.end()) return std::nullopt;
  OffloadOutcome outcome = std::move(it->second);
  done_.erase(it);
  return outcome;
}

std::optional<Completion> ClientCore::take_oldest() {
  if (done_.empty()) return std::nullopt;
  const RequestId request_id = done_.begin()->first;
  return Completion{request_id, *take(request_id)};
}

OffloadOutcome& ClientCore::finish(PendingMap::iterator it, Kind kind, std::string reason,
                                   std::int64_t now_us) {
  const auto [request_id, pending] = *it;
  // First: where memory is out, the request is still there.
  OffloadOutcome& outcome = done_[request_id];
  pending_.erase(it);
  --links_[pending.link].in_flight;
  outcome.kind = kind;
  outcome.reason = std::move(reason);
  outcome.bytes_sent = pending.bytes;
  outcome.sent_us = pending.sent_us;
  outcome.dtype = pending.dtype;
  outcome.server = pending.link;
  outcome.link_us = now_us - pending.sent_us;
  return outcome;
}

void ClientCore::receive(std::size_t index, std::span<const std::span<const std::byte>> frames,
                         std::int64_t now_us) {
  if (links_[index].state == Link::State::kDown) return;
  Result<Message> message = decode(frames);
  if (!message.ok()) return drop_invalid(index, message.status().message(), now_us);
  const Envelope& from = message->envelope;
  if (const auto* welcome = std::get_if<Welcome>(&message->body)) {
    on_welcome(index, from, *welcome, now_us);
  } else if (auto* reply = std::get_if<Reply>(&message->body)) {
    on_reply(index, from, std::move(*reply), now_us);
  } else if (const auto* refusal = std::get_if<Refusal>(&message->body)) {
    on_refusal(index, from, *refusal, now_us);
  } else if (std::holds_alternative<Pong>(message->body)) {
    on_pong(index, from, now_us);
  } else {
    drop_invalid(index, "a message that only edges send", now_us);
  }
}

// A server that is not there may be back at any moment, and asking costs it nothing.
void ClientCore::connect_failed(std::size_t index, std::string problem, bool refused,
                                std::int64_t now_us) {
  if (links_[index].state != Link::State::kConnecting) return;
  if (problem.empty()) problem = "cannot connect";
  const std::uint32_t most_ms = refused ? options_.reconnect_max_ms : kAbsentMostMs;
  drop(index, std::move(problem), now_us + backoff_us(links_[index].failures, most_ms));
}

void ClientCore::disconnected(std::size_t index, std::int64_t now_us) {
  const Link& link = links_[index];
  if (link.state == Link::State::kDown || link.state == Link::State::kConnecting) return;
  drop(index, "connection lost", now_us + backoff_us(link.failures));
}

void ClientCore::drop_invalid(std::size_t index, const std::string& why, std::int64_t now_us) {
  ++counters_.invalid_messages;
  drop(index, "the server broke the protocol (" + why + ")",
       now_us + backoff_us(links_[index].failures));
}

void ClientCore::count_stray(std::uint64_t id) {
  // Ids count up from 1, so an id that was given out is known to be an earlier request's.
  ++(id != 0 && id < next_id_ ? counters_.late_answers : counters_.unknown_answers);
}

ClientCore::PendingMap::iterator ClientCore::find_pending(std::size_t index, std::uint64_t id) {
  const auto it = pending_.find(id);
  return it != pending_.end() && it->second.link == index ? it : pending_.end();
}

std::string ClientCore::wrong_model_text(std::uint64_t server_hash) const {
  return "wrong model: the edge has " + hash_to_string(options_.model_hash) + ", the server " +
         hash_to_string(server_hash);
}

void ClientCore::on_welcome(std::size_t index, const Envelope& from, const Welcome& welcome,
                            std::int64_t now_us) {
  Link& link = links_[index];
  if (link.state != Link::State::kGreeting || from.request_id != link.hello_id) {
    return count_stray(from.request_id);
  }
  const std::int64_t retry_us = now_us + slow_retry_us();
  if (from.model_hash != options_.model_hash) {
    return drop(index, wrong_model_text(from.model_hash), retry_us);
  }
  if ((welcome.capabilities & capability(options_.activation_dtype)) == 0) {
    return drop(index,
                "the server does not take activations as " +
                    std::string(to_string(options_.activation_dtype)),
                retry_us);
  }
  if (options_.classes != 0 && welcome.classes != options_.classes) {
    return drop(index, "the server's number of classes differs", retry_us);
  }
  ++counters_.welcomes;
  probe_ = LinkProbe{link.asked_us, now_us - link.asked_us, kHeaderBytes};
  link.answered_us = now_us;
  link.welcome = welcome;
  link.state = Link::State::kReady;
  link.problem.clear();
}

void ClientCore::on_reply(std::size_t index, const Envelope& from, Reply reply,
                          std::int64_t now_us) {
  const auto it = find_pending(index, from.request_id);
  if (it == pending_.end()) return count_stray(from.request_id);
  Link& link = links_[index];
  if (from.model_hash != options_.model_hash) {
    return drop(index, wrong_model_text(from.model_hash), now_us + slow_retry_us());
  }
  if (reply.probabilities.size() != link.welcome.classes) {
    return drop_invalid(index, "number of probabilities", now_us);
  }
  link.failures = link.timeouts = link.busy = 0;
  link.answered_us = now_us;
  ++counters_.replies;
  OffloadOutcome& outcome = finish(it, Kind::kReply, "", now_us);
  outcome.link_us = std::max<std::int64_t>(0, outcome.link_us - reply.server_us);
  outcome.reply = std::move(reply);
}

void ClientCore::on_refusal(std::size_t index, const Envelope& from, const Refusal& refusal,
                            std::int64_t now_us) {
  Link& link = links_[index];
  if (link.state == Link::State::kGreeting && from.request_id == link.hello_id) {
    return on_hello_refused(index, from, refusal, now_us);
  }
  const auto it = find_pending(index, from.request_id);
  if (it == pending_.end()) return count_stray(from.request_id);
  ++counters_.refused;
  link.answered_us = now_us;
  finish(it, Kind::kRefused, refusal_text(refusal), now_us).retryable = is_retryable(refusal.code);
  after_refusal(index, from, refusal.code, now_us);
}

void ClientCore::on_hello_refused(std::size_t index, const Envelope& from, const Refusal& refusal,
                                  std::int64_t now_us) {
  switch (refusal.code) {
    case RefuseCode::kWrongModel:
      // A server may be replaced: keep asking, slowly.
      return drop(index, wrong_model_text(from.model_hash), now_us + slow_retry_us());
    case RefuseCode::kUnsupportedVersion:
    case RefuseCode::kBadRequest:
      return drop(index, refusal_text(refusal), now_us + slow_retry_us());
    default:
      return drop(index, refusal_text(refusal), now_us + backoff_us(links_[index].failures));
  }
}

// What the refusal of a request says about the link. Requests in flight keep their connection: a
// server that is busy or draining still answers what it accepted.
void ClientCore::after_refusal(std::size_t index, const Envelope& from, RefuseCode code,
                               std::int64_t now_us) {
  Link& link = links_[index];
  switch (code) {
    case RefuseCode::kBusy:
      ++counters_.refused_busy;
      [[fallthrough]];
    case RefuseCode::kInternal:
      if (++link.busy < kBusyLimit || link.state != Link::State::kReady) break;
      link.problem = code == RefuseCode::kBusy ? "the server is overloaded"
                                               : "the server fails on good requests";
      pause(link, link.busy - kBusyLimit, now_us);
      break;
    case RefuseCode::kShuttingDown:
      if (link.state != Link::State::kReady) break;
      link.problem = "the server is shutting down";
      pause(link, link.failures++, now_us);
      break;
    case RefuseCode::kExpired:
      // This came before our own deadline: the server's measure of the way is off since a clock
      // has jumped, as after a sleep. A hello lets it measure anew.
      [[fallthrough]];
    case RefuseCode::kNoSession:
      // The server behind this connection is a new one, or has forgotten us.
      if (link.state == Link::State::kReady) greet_again(index, now_us);
      break;
    case RefuseCode::kWrongModel:
      drop(index, wrong_model_text(from.model_hash), now_us + slow_retry_us());
      break;
    case RefuseCode::kBadRequest:
    case RefuseCode::kUnsupportedVersion:
      break;
  }
}

std::string ClientCore::last_problem() const {
  std::string text;
  for (std::size_t i = 0; i < links_.size(); ++i) {
    if (links_[i].problem.empty()) continue;
    // Of the first attempt.
    const std::string now = links_[i].problem == kNotYet ? connections_.problem(i) : std::string();
    if (!text.empty()) text += "; ";
    text += options_.endpoints[i] + ": " + (now.empty() ? links_[i].problem : now);
  }
  return text;
}

}  // namespace splitee::transport
