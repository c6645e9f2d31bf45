// Decoders of pictures, and what follows with what they found: the input is a file.
#include <cstdio>
#include <cstdlib>
#include <memory>

// It needs stdio's types before.
#include <jpeglib.h>
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

std::string jpeg_of(int channels, bool progressive) {
  constexpr JDIMENSION kWidth = 19, kHeight = 10;
  jpeg_error_mgr errors;
  jpeg_compress_struct info;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &bytes, &size);
  info.image_width = kWidth;
  info.image_height = kHeight;
  info.input_components = channels;
  info.in_color_space = channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&info);
  info.restart_interval = 1;
  if (progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  std::vector<JSAMPLE> pixels(kWidth * static_cast<std::size_t>(channels));
  while (info.next_scanline < info.image_height) {
    for (JSAMPLE& pixel : pixels) pixel = static_cast<JSAMPLE>(pixel * 3 + info.next_scanline + 50);
    JSAMPROW row = pixels.data();
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  const std::unique_ptr<unsigned char, decltype(&std::free)> owner(bytes, std::free);
  return {reinterpret_cast<const char*>(bytes), size};
}

}  // namespace

std::vector<std::string> splitee::fuzz::seeds() {
  std::vector<std::string> files = {"P6\n2 1\n255\nabcdef",     "P5 # comment\n3 2 99\n123456",
                                    png_of(PNG_FORMAT_RGB, 3),  png_of(PNG_FORMAT_RGBA, 4),
                                    png_of(PNG_FORMAT_GRAY, 1), jpeg_of(1, false),
                                    jpeg_of(3, false),          jpeg_of(3, true)};
  // Changes of what is no picture at all reach little.
  for (const std::string& file : files) require(decode_image(bytes_of(file)).ok());
  files.insert(files.end(), {"", "P6 65535 65535 255\n"});
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
