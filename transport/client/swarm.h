// Many edges in one thread, for measurements under load: connections to servers that send what they
// are told when they are told, and report every answer. Unlike a Client, a swarm never waits for an
// answer, never backs off and never retries.
//
// Thread rule: one thread at a time; a ZeroMQ I/O thread works behind it.
// Errors: create() fails on a malformed endpoint or key, greet() where a connection is not
// welcomed. After that, what a server does is an Answer or silence.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "transport/client/client.h"
#include "transport/wire/wire.h"

namespace splitee::transport {

struct SwarmOptions {
  std::vector<std::string> endpoints;  // connection i goes to endpoint i mod their number
  std::size_t connections = 1;
  std::uint64_t model_hash = 0;
  Dtype activation_dtype = Dtype::kF32;
  std::optional<CurveClientKeys> curve;  // of all connections
};

class Swarm {
 public:
  struct Answer {
    std::size_t connection = 0;
    std::uint64_t request_id = 0;
    std::optional<RefuseCode> refused;
    std::string text;             // of the refusal
    std::uint32_t server_us = 0;  // of a reply
  };

  static Result<std::unique_ptr<Swarm>> create(const SwarmOptions& options);
  ~Swarm();

  // Says hello on every connection and waits for the welcomes, at most timeout_us. Fails with the
  // refusal of a server.
  Status greet(std::int64_t timeout_us);

  // Keeps an encoded sample; its number.
  Result<std::size_t> add_sample(const OffloadRequest& request);
  std::size_t samples() const;

  // Sends a sample; its request id (growing, over all connections), or nothing where ZeroMQ's queue
  // of the connection is full.
  std::optional<std::uint64_t> send(std::size_t connection, std::size_t sample,
                                    std::uint64_t deadline_us);
  // Waits for answers until `until_us` of the monotonic clock (now_us() of transport/zmq/socket.h
  // is the same) and reports those that are there.
  void receive(std::int64_t until_us, const std::function<void(const Answer&)>& report);
  static std::int64_t clock_us();

 private:
  Swarm();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace splitee::transport
