// Brings a picture to the size that a network takes, as torchvision's transforms do it on tensors:
// bilinear with antialiasing (a triangle as wide as the step between pixels, in both directions,
// without rounding in between).
// Thread rule: re-entrant. Errors: none; sizes are preconditions.
#pragma once

#include <cstddef>
#include <vector>

#include "runtime/image/pixels.h"

namespace splitee::runtime {

struct ResizeRule {
  std::size_t height = 0, width = 0;  // of the result, at least 1
  // 0: the whole picture becomes the result. Else its shorter side becomes this, at least the
  // result's sides, and the middle is cut out (torchvision's Resize(n) and CenterCrop).
  std::size_t shorter_side = 0;
};

// (rule.height, rule.width, 3), 0 to 255.
std::vector<float> resize(const Image& image, const ResizeRule& rule);

}  // namespace splitee::runtime
