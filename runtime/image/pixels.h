// A picture as pixels, and how large it may be.
// Thread rule: plain values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace splitee::runtime {

inline constexpr std::size_t kMaxImagePixels = std::size_t{1} << 25;  // 100 MB as RGB
inline constexpr std::size_t kMaxImageEdge = 1u << 16;                // either side

struct Image {
  std::size_t width = 0, height = 0;
  std::vector<std::uint8_t> rgb;  // (height, width, 3)
};

// To be asked before memory for a picture is taken. Errors: as decode_image() (image.h).
Status check_image_size(std::uint64_t width, std::uint64_t height);

// A PPM of these pixels, (height, width, 3).
std::string ppm_of(std::size_t width, std::size_t height, std::span<const std::uint8_t> rgb);

}  // namespace splitee::runtime
