// One JSON object per sample, as splitee-edge writes it (JSON Lines):
//   id           0-based number of the sample
//   class        class number of the answer        label       its name
//   confidence   of the answer, 0 to 1
//   split        layer chosen as the split, 1-based; 0: the input itself was to be sent
//   arm          the same as a number of its exit, 1-based; 0 as there
//   exit_layer   layer whose head answered, 1-based
//   route        "exit", "offload", "fallback", "final" or "audit"
//   cost         in lambda                         reward      confidence - mu * cost
//   edge_us      computing on the edge             link_us     waiting, less the server's time
//   server_us    on the server                     bytes_sent  to the server
//   payload      what was sent last: "input", or the type of the activation: "f32", "f16", "i8";
//                null where nothing was
//   audited      whether it was run to the last exit to check what others would have said
//   would_exit   where audited: the layer that would have answered; null: the last one, or a server
//   value        in place of class, label, confidence and reward, of a network with one label
//   labels       in place of the same: {"name": probability, ...}, of labels that do not exclude
//                each other
//   truth        class number, where the input is labelled
//   age_us       with --drop-late: what had passed since the frame was read when it was begun with
//   path         of the file that was answered, where the input names files
//   exits        with --exits: [{"layer": 1, "probabilities": [...]}, ...]
// A frame that was dropped because a later one was there (--drop-late) has another one:
//   {"id": ..., "dropped": true}
// Thread rule: plain values; a RecordWriter is used by one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policy/policy.h"
#include "runtime/network.h"
#include "transport/wire/wire.h"

namespace splitee::tools {

struct Record {
  std::uint64_t id = 0;
  std::uint32_t class_index = 0;
  float confidence = 0;
  std::vector<float> answers;  // all of what the head that answered said: probabilities, or a value
  std::size_t split = 0, arm = 0;
  std::size_t exit_layer = 0;
  policy::Route route = policy::Route::kFinal;
  double cost = 0;  // in lambda
  double reward = 0;
  std::int64_t edge_us = 0, link_us = 0, server_us = 0;
  std::uint64_t bytes_sent = 0;
  std::optional<transport::Dtype> payload;
  std::optional<std::size_t> would_exit;  // layer
  std::optional<std::uint32_t> truth, feedback;
  std::optional<std::int64_t> age_us;
  std::string path;                       // empty: no file
  std::vector<std::vector<float>> exits;  // probabilities per exit; empty without --exits
};

class RecordWriter {
 public:
  explicit RecordWriter(const runtime::NetworkInfo& info);

  // The record's line with its line end, valid until the next call.
  const std::string& line(const Record& record);

 private:
  void append_answer(const Record& record);

  const runtime::Output output_;
  std::vector<std::string> quoted_labels_;
  std::vector<std::size_t> exit_layers_;
  std::string line_;
};

}  // namespace splitee::tools
