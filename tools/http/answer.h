// What came of one row of a request.
// Thread rule: plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace splitee::tools {

struct RowAnswer {
  std::uint32_t class_index = 0;
  float confidence = 0;
  std::size_t exit_layer = 0;  // layer whose head answered, 1-based
  // What that head said: of the classes or labels, or one value.
  std::vector<float> probabilities{};

  // Of an edge.
  std::string route{};                    // as in its records
  double cost = 0;                        // in lambda
  std::vector<float> exit_confidences{};  // per exit; -1: not looked at
  std::int64_t latency_us = 0;            // computing, waiting and the server's time
  std::uint64_t bytes_sent = 0;
};

}  // namespace splitee::tools
