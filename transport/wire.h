// Wire protocol v1. (The transport folder completes this header with the byte layout.)
#pragma once

#include <cstdint>
#include <vector>

namespace splitee::transport {

// Answer to an infer request.
struct Reply {
  std::uint64_t request_id = 0;
  std::uint32_t class_index = 0;
  float confidence = 0;
  std::vector<float> probabilities;  // (classes)
  std::uint32_t server_us = 0;       // received to sent
};

}  // namespace splitee::transport
