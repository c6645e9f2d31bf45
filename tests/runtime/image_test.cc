// Decoders and resizing: what is right is checked against Python (tests/tools/images_test.py); here
// what they refuse, and sizes that would cost memory or time.
#include "runtime/image/image.h"

#include <string>

#include <doctest/doctest.h>

#include "runtime/image/resize.h"
#include "tests/base/bytes.h"

using namespace splitee;
using namespace splitee::runtime;

namespace {

std::string problem(const std::string& file) {
  return decode_image(splitee::testing::as_bytes(file)).status().message();
}

}  // namespace

TEST_CASE("Images: a PPM and a PGM, and what is wrong with them") {
  const std::string file = "P6\n# two\n2 1 # pixels\n255\nabcdef";
  const auto image = decode_image(splitee::testing::as_bytes(file));
  REQUIRE(image.ok());
  CHECK(image->width == 2);
  CHECK(std::string(image->rgb.begin(), image->rgb.end()) == "abcdef");
  const std::string grey = std::string("P5 1 2 100\n") + '\0' + '\x64';
  const auto scaled = decode_image(splitee::testing::as_bytes(grey));
  REQUIRE(scaled.ok());
  CHECK(scaled->rgb == std::vector<std::uint8_t>{0, 0, 0, 255, 255, 255});
  for (const char* broken :
       {"P6", "P6 1", "P6 1 1", "P6 1 1 255", "P6 1 1 255\nab", "P6 -1 1 255\n", "P6 1 0 255\n",
        "P6 1 1 0\nabc", "P6 1 1 256\nabc", "P7 1 1 1\nabc", "P5 1 1 9\nz", "P6 70000 1 255\n",
        "P6 99999999999 1 255\n", ""}) {
    CAPTURE(broken);
    CHECK_FALSE(problem(broken).empty());
  }
  CHECK(problem("P6 60000 60000 255\n").find("up to") != std::string::npos);
  CHECK(problem(std::string(kMaxImageBytes + 1, 'P')).find("bytes; up to") != std::string::npos);
}

TEST_CASE("Images: a picture that is one pixel wide and very long is cut, not blown up") {
  Image image{1, 60'000, std::vector<std::uint8_t>(180'000, 9)};
  image.rgb[90'000] = 200;  // in the middle
  const std::vector<float> cut = resize(image, {8, 8, 1024});
  REQUIRE(cut.size() == 8 * 8 * 3);
  for (const float value : cut) {
    CHECK(value >= 8.99f);
    CHECK(value <= 200.01f);
  }
  const std::vector<float> whole = resize(image, {3, 2, 0});
  CHECK(whole[0] == doctest::Approx(9.0f));
  CHECK(whole[6] > 9.0f);
}
