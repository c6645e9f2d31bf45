// The network that a policy's session drives on the edge: this machine's engine for the layers and
// exits, and the link to a server for offloads. One sample at a time: start(), then the session,
// then the answer and the measurements.
// Thread rule: one thread. Ownership: borrows the engine and the client, which must outlive it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "policy/policy.h"
#include "runtime/engine.h"
#include "runtime/status.h"
#include "transport/client.h"

namespace splitee::tools {

// What one sample took. Times in microseconds.
struct Usage {
  std::int64_t wait_us = 0;  // in the client, all told
  std::int64_t link_us = 0, server_us = 0;
  std::uint64_t bytes_sent = 0;
};

class EdgeNetwork {
 public:
  // `client` is null where there is no server.
  EdgeNetwork(runtime::Engine& engine, transport::Client* client, std::int64_t deadline_us)
      : engine_(engine), client_(client), deadline_us_(deadline_us) {}

  void start(const runtime::Encoding& input);

  // What policy::Session asks of a network.
  policy::ExitReading evaluate(std::size_t arm);
  std::optional<float> offload(std::size_t arm);

  // Of the answer last seen, the session's last call.
  std::uint32_t class_index() const { return class_index_; }
  const Usage& usage() const { return usage_; }
  std::size_t layers_run() const { return begun_ ? engine_.layer() : 0; }
  // Not ok if the engine refused the sample: its answer means nothing then.
  const runtime::Status& status() const { return status_; }
  // Why the last offload failed; empty if it worked or there was none.
  const std::string& problem() const { return problem_; }

 private:
  runtime::Engine& engine_;
  transport::Client* client_;
  std::int64_t deadline_us_;
  const runtime::Encoding* input_ = nullptr;
  bool begun_ = false;
  std::uint32_t class_index_ = 0;
  Usage usage_;
  runtime::Status status_;
  std::string problem_;
};

}  // namespace splitee::tools
