// Edge side of the link: sends activations (or token ids) to one of several splitee-servers, with
// deadlines.
//
// Each server has a link: connected, greeted with hello, ready, or out of use. A link leaves use
// when a request times out, when its server keeps refusing as busy, or when it breaks; it comes
// back after a probe (a hello answered by a welcome), with exponential back-off and jitter. So a
// silent server costs the deadline of the requests in flight, once, and one whose connection breaks
// ends them at once; after that available() says no
// at once. Requests go to the first ready link in the order of the endpoints. A request that its
// server refused or lost may be sent once more, elsewhere, within a budget: retry().
//
// Thread rule: one thread at a time; a ZeroMQ I/O thread works behind it.
// Errors: create() fails on a malformed endpoint or key. Nothing else fails: a link that is slow,
// gone or refusing is an outcome (Outcome::kind), never an error, and never blocks past a
// deadline.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/status.h"
#include "transport/wire.h"

namespace splitee::transport {

struct CurveClientKeys {
  std::string public_key, secret_key;  // Z85, 40 characters
  std::string server_key;
};

struct ClientOptions {
  std::vector<std::string> endpoints;
  std::uint64_t model_hash = 0;
  std::size_t classes = 0;               // replies must have as many; 0 takes the server's word
  Dtype activation_dtype = Dtype::kF32;  // kF32, kF16 or kI8; a server must speak it
  std::size_t window = 1;                // requests in flight per server, for submit()
  double retry_share = 0.1;              // retries per request, at the most
  std::uint32_t ping_ms = 0;             // without an answer for so long, ask; 0: never
  std::optional<CurveClientKeys> curve;
  std::uint32_t hello_timeout_ms = 2'000;  // to be welcomed
  // To connect. ZeroMQ's handshake takes two round trips, with CURVE three and a half.
  std::uint32_t connect_timeout_ms = 4'000;
  std::uint32_t reconnect_min_ms = 100;  // first back-off, doubled up to the next
  std::uint32_t reconnect_max_ms = 4'000;
  std::uint64_t seed = 0;  // of the back-off's jitter; 0 takes one from the system
};

// One sample to be finished elsewhere. The views must live until offload() or submit() returns.
struct OffloadRequest {
  std::size_t layer = 0;  // layer whose output is sent; 0 with token ids
  std::size_t tokens = 0;
  std::span<const float> activation;    // (tokens, hidden); empty: send ids and types instead
  std::span<const std::int32_t> ids;    // (tokens)
  std::span<const std::int32_t> types;  // (tokens)
  // Sent as this where the server speaks it; else, and for kNone, as ClientOptions says.
  Dtype activation_dtype = Dtype::kNone;
};

struct OffloadOutcome {
  enum class Kind {
    kReply,        // answered
    kTimeout,      // sent, no answer by the deadline
    kRefused,      // the server said no, or the request itself is unfit
    kUnavailable,  // not sent, or the link broke before the answer
  };
  Kind kind = Kind::kUnavailable;
  Reply reply;                   // for kReply
  std::string reason;            // for the other kinds
  std::uint64_t bytes_sent = 0;  // header and payload; 0 where nothing was sent
  std::int64_t link_us = 0;      // send to receive, less the server's own time
  std::int64_t sent_us = 0;      // on the monotonic clock
  Dtype dtype = Dtype::kNone;    // what was sent
  std::size_t server = 0;        // index of its endpoint; where bytes were sent
  bool retryable = false;        // another server may well answer it
};

// What an exchange without any work took: a hello or a ping with its answer.
struct LinkProbe {
  std::int64_t sent_us = 0, rtt_us = 0;
  std::uint64_t bytes = 0;
};

struct ClientCounters {
  std::uint64_t sent = 0, replies = 0, timeouts = 0, refused = 0, refused_busy = 0;
  std::uint64_t retries = 0;  // part of sent
  std::uint64_t bytes_sent = 0;
  std::uint64_t late_answers = 0;      // to requests that were over already; dropped
  std::uint64_t unknown_answers = 0;   // to requests never made; dropped
  std::uint64_t invalid_messages = 0;  // break the protocol; the link was dropped
  std::uint64_t probes = 0, welcomes = 0;
};

class Client {
 public:
  static runtime::Result<std::unique_ptr<Client>> create(const ClientOptions& options);
  ~Client();

  // True while a link is ready and has room in its window. Also drives reconnection and hello;
  // cheap, never blocks.
  bool available();
  // True while a link is ready, though its window may be full.
  bool ready();
  // Waits until available or the time is over.
  bool wait_available(std::int64_t timeout_us);
  // Sends and waits for the answer, at most deadline_us. Answers to earlier submit()s that arrive
  // meanwhile are kept for poll().
  OffloadOutcome offload(const OffloadRequest& request, std::int64_t deadline_us);

  // Sends without waiting. Every ticket gets exactly one outcome, at the latest at its deadline
  // (seen when poll() or another call next runs).
  using Ticket = std::uint64_t;
  Ticket submit(const OffloadRequest& request, std::int64_t deadline_us);
  struct Completion {
    Ticket ticket;
    OffloadOutcome outcome;
  };
  // The next outcome, the oldest ticket first among those that are ready; waits for one at most
  // timeout_us (0: never). Nothing at once where no request is in flight.
  std::optional<Completion> poll(std::int64_t timeout_us);
  // Waits until poll() has something, one of `fds` is readable, or the time is over.
  void wait(std::span<const int> fds, std::int64_t timeout_us);

  // Sends the request of `failed` again, to another server, if that may help (failed.retryable),
  // one is available now, time is left, and the budget allows. A new ticket, or nothing: then the
  // sample is to be finished on the edge. A request is retried once at the most by retrying only
  // what submit() or offload() sent.
  std::optional<Ticket> retry(const OffloadRequest& request, const OffloadOutcome& failed,
                              std::int64_t deadline_us);

  // The newest probe not yet taken.
  std::optional<LinkProbe> take_probe();

  // Why the link is not available, for the log ("wrong model: ...", "no answer from ...").
  std::string last_problem() const;
  const ClientCounters& counters() const;

 private:
  Client();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace splitee::transport
