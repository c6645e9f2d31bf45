// Writes a PPM from standard input as a JPEG to standard output, for tests.
// Usage: ppm_to_jpeg [QUALITY [progressive]]
#include <cstdio>
#include <cstdlib>
#include <vector>
// It needs stdio's types before.
#include <jpeglib.h>

#include "runtime/image/image.h"

int main(int argc, char** argv) {
  std::vector<std::byte> file;
  for (int c = std::getchar(); c != EOF; c = std::getchar()) file.push_back(std::byte(c));
  auto image = splitee::runtime::decode_image(file);
  if (!image.ok()) return 1;
  jpeg_error_mgr errors;
  jpeg_compress_struct info;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  jpeg_stdio_dest(&info, stdout);
  info.image_width = static_cast<JDIMENSION>(image->width);
  info.image_height = static_cast<JDIMENSION>(image->height);
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, argc > 1 ? std::atoi(argv[1]) : 90, TRUE);
  if (argc > 2) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    JSAMPROW row = image->rgb.data() + std::size_t{3} * image->width * info.next_scanline;
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  return 0;
}
