// How a Client is to reach its servers.
// Thread rule: plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "transport/wire/wire.h"
#include "transport/zmq/resolver.h"

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
  // To look the name up and connect. ZeroMQ's handshake takes two round trips, with CURVE three and
  // a half.
  std::uint32_t connect_timeout_ms = 4'000;
  std::uint32_t reconnect_min_ms = 100;  // first back-off, doubled up to the next
  std::uint32_t reconnect_max_ms = 4'000;
  std::uint64_t seed = 0;  // of the back-off's jitter; 0 takes one from the system
  // Looks a name up, in a thread that nobody waits for; empty: as the system does.
  Resolver::Lookup lookup;
};

}  // namespace splitee::transport
