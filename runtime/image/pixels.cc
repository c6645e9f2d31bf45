#include "runtime/image/pixels.h"

namespace splitee::runtime {

Status check_image_size(std::uint64_t width, std::uint64_t height) {
  if (width == 0 || height == 0) return {Code::kCorrupt, "a picture without pixels"};
  if (width > kMaxImageEdge || height > kMaxImageEdge || width * height > kMaxImagePixels) {
    return {Code::kUnsupported, "a picture of " + std::to_string(width) + " x " +
                                    std::to_string(height) + " pixels; up to " +
                                    std::to_string(kMaxImagePixels) + " are possible"};
  }
  return {};
}

std::string ppm_of(std::size_t width, std::size_t height, std::span<const std::uint8_t> rgb) {
  std::string file = "P6\n" + std::to_string(width) + " " + std::to_string(height) + "\n255\n";
  file.append(reinterpret_cast<const char*>(rgb.data()), rgb.size());
  return file;
}

}  // namespace splitee::runtime
