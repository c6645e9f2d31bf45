// One JSON object per sample, as splitee-edge writes it (JSON Lines):
//   id           0-based number of the sample
//   class        class number of the answer        label       its name
//   confidence   of the answer, 0 to 1
//   split        layer chosen as the split, 1-based; 0: the input itself was to be sent
//   exit_layer   layer whose head answered, 1-based
//   route        "exit", "offload", "fallback" or "final"
//   cost         in lambda                         reward      confidence - mu * cost
//   edge_us      computing on the edge             link_us     waiting, less the server's time
//   server_us    on the server                     bytes_sent  to the server
//   payload      what was sent last: "input", or the type of the activation: "f32", "f16", "i8";
//                null where nothing was
//   truth        class number, where the input is labelled
//   exits        with --exits: [{"layer": 1, "probabilities": [...]}, ...]
// Thread rule: plain values; a RecordWriter is used by one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/policy.h"
#include "transport/wire.h"

namespace splitee::tools {

struct Record {
  std::size_t id = 0;
  std::uint32_t class_index = 0;
  float confidence = 0;
  std::size_t split = 0;
  std::size_t exit_layer = 0;
  policy::Route route = policy::Route::kFinal;
  double cost = 0;  // in lambda
  double reward = 0;
  std::int64_t edge_us = 0, link_us = 0, server_us = 0;
  std::uint64_t bytes_sent = 0;
  std::optional<transport::Dtype> payload;
  std::optional<std::uint32_t> truth;
  std::vector<std::vector<float>> exits;  // probabilities per exit; empty without --exits
};

class RecordWriter {
 public:
  RecordWriter(const std::vector<std::string>& labels, std::vector<std::size_t> exit_layers);

  // The record's line with its line end, valid until the next call.
  const std::string& line(const Record& record);

 private:
  std::vector<std::string> quoted_labels_;
  std::vector<std::size_t> exit_layers_;
  std::string line_;
};

}  // namespace splitee::tools
