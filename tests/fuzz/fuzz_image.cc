// Decoders of pictures, and what follows with what they found: the input is a file.
#include <png.h>

#include "runtime/image/image.h"
#include "runtime/image/resize.h"
#include "tests/fuzz/fuzz.h"

using namespace splitee;
using namespace splitee::runtime;
using splitee::fuzz::require;

namespace {

std::string png_of(std::uint32_t format, std::size_t channels) {
  constexpr std::uint32_t kWidth = 5, kHeight = 4;
  std::vector<std::uint8_t> pixels(kWidth * kHeight * channels);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * 37);
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = kWidth;
  image.height = kHeight;
  image.format = format;
  png_alloc_size_t size = 0;
  require(png_image_write_to_memory(&image, nullptr, &size, 0, pixels.data(), 0, nullptr) != 0);
  std::string file(size, '\0');
  require(png_image_write_to_memory(&image, file.data(), &size, 0, pixels.data(), 0, nullptr) != 0);
  file.resize(size);
  return file;
}

// 1 x 1, grey: the shortest file that is one.
const unsigned char kJpeg[] = {
    0xff, 0xd8, 0xff, 0xdb, 0x00, 0x43, 0x00, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01,
    0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01,
    0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01,
    0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01,
    0x01, 0x01, 0x01, 0x01, 0x01, 0xff, 0xc0, 0x00, 0x0b, 0x08, 0x00, 0x01, 0x00, 0x01, 0x01, 0x01,
    0x11, 0x00, 0xff, 0xc4, 0x00, 0x14, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xff, 0xc4, 0x00, 0x14, 0x10, 0x01, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xda,
    0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x3f, 0x00, 0x37, 0xff, 0xd9};

}  // namespace

std::vector<std::string> splitee::fuzz::seeds() {
  std::vector<std::string> files = {"",
                                    "P6\n2 1\n255\nabcdef",
                                    "P5 # comment\n3 2 9\n123456",
                                    "P6 65535 65535 255\n",
                                    png_of(PNG_FORMAT_RGB, 3),
                                    png_of(PNG_FORMAT_RGBA, 4),
                                    png_of(PNG_FORMAT_GRAY, 1)};
  files.emplace_back(reinterpret_cast<const char*>(kJpeg), sizeof kJpeg);
  return files;
}

void splitee::fuzz::repair(std::string&) {}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto image = decode_image(std::as_bytes(std::span(data, size)));
  if (!image.ok()) {
    require(!image.status().message().empty());
    return 0;
  }
  require(image->width > 0 && image->height > 0);
  require(image->width * image->height <= kMaxImagePixels);
  require(image->rgb.size() == 3 * image->width * image->height);
  for (const ResizeRule& rule : {ResizeRule{7, 5, 0}, ResizeRule{7, 5, 9}}) {
    const std::vector<float> pixels = resize(*image, rule);
    require(pixels.size() == 3 * rule.height * rule.width);
    for (const float value : pixels) require(value >= -0.01f && value <= 255.01f);
  }
  return 0;
}
