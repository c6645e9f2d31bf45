// Edge side of the link: sends activations (or inputs) to one of several splitee-servers, with
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
// Names are looked up anew for every attempt to connect, by threads of their own; an attempt tries
// every address that a name has. Links do not wait for each other.
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

#include "base/status.h"
#include "transport/client/client_options.h"
#include "transport/client/offload.h"

namespace splitee::transport {

class Client {
 public:
  static Result<std::unique_ptr<Client>> create(const ClientOptions& options);
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

  // Sends without waiting. Every request_id gets exactly one outcome, at the latest at its deadline
  // (seen when poll() or another call next runs).
  RequestId submit(const OffloadRequest& request, std::int64_t deadline_us);
  // The next outcome, the oldest request_id first among those that are ready; waits for one at most
  // timeout_us (0: never). Nothing at once where no request is in flight.
  std::optional<Completion> poll(std::int64_t timeout_us);
  // Waits until poll() has something, one of `fds` is readable, or the time is over.
  void wait(std::span<const int> fds, std::int64_t timeout_us);

  // Sends the request of `failed` again, to another server, if that may help (failed.retryable),
  // one is available now, time is left, and the budget allows. A new request_id, or nothing: then
  // the sample is to be finished on the edge. A request is retried once at the most by retrying
  // only what submit() or offload() sent.
  std::optional<RequestId> retry(const OffloadRequest& request, const OffloadOutcome& failed,
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
