// How a Server is to serve, and what it may spend.
// Thread rule: plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace splitee::transport {

struct CurveServerKeys {
  std::string public_key, secret_key;        // Z85, 40 characters
  std::vector<std::string> authorized_keys;  // Z85 public keys of the edges let in (ZAP)
};

struct ServerOptions {
  // Whether others than this machine may reach it is the caller's to decide
  // (is_loopback_endpoint()).
  std::string endpoint = "tcp://127.0.0.1:5555";
  std::size_t threads = 1;  // workers
  // Most requests of one layer and similar length that a worker runs together, and most rows of
  // them together.
  std::size_t max_batch = 8;
  std::size_t max_batch_rows = 256;
  std::size_t max_queue = 256;  // requests waiting; beyond it a request is refused as busy
  std::size_t max_queue_bytes = std::size_t{64} << 20;
  std::size_t max_edge_bytes = std::size_t{16} << 20;  // of one edge in the queue
  std::size_t max_sessions = 4'096;       // beyond it the one idle longest must say hello again
  std::size_t max_connections = 8'192;    // beyond it new ones are cut at once
  std::size_t max_key_connections = 256;  // of one key; more are refused
  std::uint32_t max_window = 16;          // requests of one edge in flight
  // A connection whose handshake takes longer is cut. With CURVE it takes three round trips.
  std::uint32_t handshake_ms = 2'400;
  // After stop(), what is accepted is answered within that; what is left is refused.
  std::uint32_t drain_ms = 10'000;
  // One that has sent no message for so long after it came is cut.
  std::uint32_t silent_ms = 10'000;
  std::optional<CurveServerKeys> curve;
  // Told what an operator should see (refused keys, failed handshakes, faults of the server's own),
  // from any of the server's threads, each text rarely. May be empty.
  std::function<void(const std::string&)> notice;
};

}  // namespace splitee::transport
