#include "runtime/image/resize.h"

#include <algorithm>
#include <cmath>

namespace splitee::runtime {
namespace {

constexpr std::size_t kColours = 3;

// Of one direction: what each pixel of the result takes of which pixels.
struct Taps {
  struct Pixel {
    std::size_t first = 0;
    std::vector<float> weights;
  };
  std::vector<Pixel> pixels;
  std::size_t begin = 0, end = 0;  // of what is taken from
};

// Pixels [offset, offset + count) of `to` that `from` becomes.
Taps taps_of(std::size_t from, std::size_t to, std::size_t offset, std::size_t count) {
  const double step = static_cast<double>(from) / static_cast<double>(to);
  const double support = std::max(step, 1.0);
  Taps taps;
  for (std::size_t i = 0; i < count; ++i) {
    const double centre = (static_cast<double>(i + offset) + 0.5) * step;
    const double last = std::min(static_cast<double>(from), std::floor(centre + support + 0.5));
    const double first = std::max(0.0, std::floor(centre - support + 0.5));
    Taps::Pixel pixel{static_cast<std::size_t>(first), {}};
    double sum = 0;
    for (double at = first; at < last; ++at) {
      const double weight = std::max(0.0, 1.0 - std::fabs(at - centre + 0.5) / support);
      pixel.weights.push_back(static_cast<float>(weight));
      sum += weight;
    }
    for (float& weight : pixel.weights) weight = static_cast<float>(double{weight} / sum);
    taps.pixels.push_back(std::move(pixel));
  }
  taps.begin = taps.pixels.front().first;
  taps.end = taps.pixels.back().first + taps.pixels.back().weights.size();
  return taps;
}

// The whole picture's size before the middle is cut out, and where that begins.
struct Size {
  std::size_t whole, offset;
};
Size size_of(std::size_t side, std::size_t other, std::size_t result, std::size_t shorter) {
  if (shorter == 0) return {result, 0};
  const std::size_t whole = side <= other ? shorter : shorter * side / other;
  return {whole,
          static_cast<std::size_t>(std::nearbyint(static_cast<double>(whole - result) / 2.0))};
}

// Lines [down.begin, down.end) of the picture, each brought to its width: (lines, width, 3).
std::vector<float> resize_lines(const Image& image, const Taps& across, const Taps& down) {
  const std::size_t width = across.pixels.size();
  std::vector<float> lines((down.end - down.begin) * width * kColours);
  float* out = lines.data();
  for (std::size_t y = down.begin; y < down.end; ++y) {
    const std::uint8_t* line = image.rgb.data() + y * image.width * kColours;
    for (const Taps::Pixel& pixel : across.pixels) {
      float sum[kColours] = {};
      const std::uint8_t* from = line + pixel.first * kColours;
      for (const float weight : pixel.weights) {
        for (std::size_t c = 0; c < kColours; ++c) sum[c] += weight * static_cast<float>(*from++);
      }
      out = std::copy_n(sum, kColours, out);
    }
  }
  return lines;
}

}  // namespace

std::vector<float> resize(const Image& image, const ResizeRule& rule) {
  if (image.width == rule.width && image.height == rule.height &&
      (rule.shorter_side == 0 || rule.shorter_side == std::min(rule.width, rule.height))) {
    return {image.rgb.begin(), image.rgb.end()};
  }
  const Size wide = size_of(image.width, image.height, rule.width, rule.shorter_side);
  const Size high = size_of(image.height, image.width, rule.height, rule.shorter_side);
  const Taps across = taps_of(image.width, wide.whole, wide.offset, rule.width);
  const Taps down = taps_of(image.height, high.whole, high.offset, rule.height);
  const std::vector<float> lines = resize_lines(image, across, down);
  const std::size_t line = rule.width * kColours;
  std::vector<float> result(rule.height * line, 0.0f);
  for (std::size_t y = 0; y < rule.height; ++y) {
    const Taps::Pixel& pixel = down.pixels[y];
    for (std::size_t i = 0; i < pixel.weights.size(); ++i) {
      const float* from = lines.data() + (pixel.first + i - down.begin) * line;
      for (std::size_t x = 0; x < line; ++x) result[y * line + x] += pixel.weights[i] * from[x];
    }
  }
  return result;
}

}  // namespace splitee::runtime
