// Edge side of the link: sends activations (or token ids) to one of several splitee-servers, with
// deadlines.
//
// Each server has a link: connected, greeted with hello, ready, or out of use. A link leaves use
// when a request times out, when its server keeps refusing as busy, or when it breaks; it comes
// back after a probe (a hello answered by a welcome), with exponential back-off and jitter. So a
// silent server costs the deadline of the requests in flight, once, and one whose connection breaks
// ends them at once; after that available() says no
// at once. Requests go to the first ready link in the order of the endpoints.
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
  Dtype activation_dtype = Dtype::kF32;  // kF32, kF16 or kI8
  std::size_t window = 1;                // requests in flight per server, for submit()
  std::optional<CurveClientKeys> curve;
  std::uint32_t hello_timeout_ms = 2'000;  // to connect, and again to be welcomed
  std::uint32_t reconnect_min_ms = 100;    // first back-off, doubled up to the next
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
};

struct ClientCounters {
  std::uint64_t sent = 0, replies = 0, timeouts = 0, refused = 0, refused_busy = 0;
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

  // Why the link is not available, for the log ("wrong model: ...", "no answer from ...").
  std::string last_problem() const;
  const ClientCounters& counters() const;

 private:
  Client();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace splitee::transport
