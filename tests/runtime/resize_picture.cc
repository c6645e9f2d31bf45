// Writes a picture from standard input as resized float32 (height, width, 3), 0 to 255.
// Usage: resize_picture HEIGHT WIDTH SHORTER_SIDE < FILE
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "runtime/image/image.h"
#include "runtime/image/resize.h"

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  std::vector<std::byte> file;
  for (int c = std::getchar(); c != EOF; c = std::getchar()) file.push_back(std::byte(c));
  const auto image = splitee::runtime::decode_image(file);
  if (!image.ok()) {
    std::fprintf(stderr, "%s\n", image.status().message().c_str());
    return 1;
  }
  const auto number = [&](int i) { return static_cast<std::size_t>(std::atoi(argv[i])); };
  const auto pixels = splitee::runtime::resize(*image, {number(1), number(2), number(3)});
  return std::fwrite(pixels.data(), sizeof(float), pixels.size(), stdout) == pixels.size() ? 0 : 1;
}
