// What a Client is asked and what it answers: a sample to be finished elsewhere, and what came of
// it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "runtime/network.h"
#include "transport/wire/wire.h"

namespace splitee::transport {

// Of one request of one Client, never used twice.
using RequestId = std::uint64_t;

// One sample to be finished elsewhere. The views must live until offload() or submit() returns.
struct OffloadRequest {
  std::size_t layer = 0;              // layer whose output is sent; 0 with an input
  std::span<const float> activation;  // of `shape`, row major; empty: send the input instead
  runtime::Shape shape;
  runtime::InputKind input_kind = runtime::InputKind::kText;
  runtime::PreparedView input;
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

struct Completion {
  RequestId request_id;
  OffloadOutcome outcome;
};

}  // namespace splitee::transport
