// PNG by libpng's simplified interface, which has no jumps and bounds its own memory.
#include <cstring>
#include <string>

#include <png.h>

#include "runtime/image/decoders.h"

namespace splitee::runtime {
namespace {

// Frees what libpng holds.
struct Reader {
  png_image image{};
  Reader() { image.version = PNG_IMAGE_VERSION; }
  Reader(const Reader&) = delete;
  ~Reader() { png_image_free(&image); }
  bool failed(int result) const { return result == 0 || PNG_IMAGE_FAILED(image); }
  Status error() const {
    return {Code::kCorrupt, "the PNG is broken: " + std::string(image.message)};
  }
};

}  // namespace

Result<Image> decode_png(std::span<const std::byte> file) {
  Reader reader;
  if (reader.failed(png_image_begin_read_from_memory(&reader.image, file.data(), file.size()))) {
    return reader.error();
  }
  if (Status s = check_image_size(reader.image.width, reader.image.height); !s.ok()) return s;
  Image image{reader.image.width, reader.image.height, {}};
  const std::size_t pixels = image.width * image.height;
  // With its alpha, which is dropped then: without, libpng would lay the picture on a ground.
  reader.image.format = PNG_FORMAT_RGBA;
  reader.image.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
  std::vector<std::uint8_t> rgba(4 * pixels);
  if (reader.failed(png_image_finish_read(&reader.image, nullptr, rgba.data(), 0, nullptr))) {
    return reader.error();
  }
  image.rgb.resize(3 * pixels);
  for (std::size_t i = 0; i < pixels; ++i) std::memcpy(&image.rgb[3 * i], &rgba[4 * i], 3);
  return image;
}

}  // namespace splitee::runtime
