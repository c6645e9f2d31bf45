// Edge side of the link: sends activations (or token ids) to a splitee-server, with deadlines.
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
  std::optional<CurveClientKeys> curve;
  std::uint32_t reconnect_min_ms = 100;
  std::uint32_t reconnect_max_ms = 10'000;
  std::uint64_t seed = 0;  // of the back-off's jitter
};

// One sample to be finished elsewhere. The views must live until offload() returns.
struct OffloadRequest {
  std::size_t layer = 0;  // layer whose output is sent; 0 with token ids
  std::size_t tokens = 0;
  std::span<const float> activation;    // (tokens, hidden); empty: send ids and types instead
  std::span<const std::int32_t> ids;    // (tokens)
  std::span<const std::int32_t> types;  // (tokens)
};

struct OffloadOutcome {
  enum class Kind { kReply, kTimeout, kRefused, kUnavailable };
  Kind kind = Kind::kUnavailable;
  Reply reply;         // for kReply
  std::string reason;  // for kRefused and kUnavailable
  std::uint64_t bytes_sent = 0;
  std::int64_t link_us = 0;  // send to receive, less the server's own time
};

class Client {
 public:
  static runtime::Result<std::unique_ptr<Client>> create(const ClientOptions& options);
  ~Client();

  // True while a server has said welcome and its circuit is closed. Also drives reconnection and
  // hello; cheap, never blocks.
  bool available();
  // Waits until available or the time is over.
  bool wait_available(std::int64_t timeout_us);
  // Sends and waits for the answer, at most deadline_us.
  OffloadOutcome offload(const OffloadRequest& request, std::int64_t deadline_us);
  // Why the link is not available, for the log ("wrong model: ...", "no answer from ...").
  std::string last_problem() const;

 private:
  Client();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace splitee::transport
