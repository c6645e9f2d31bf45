// The decoders behind image.h, one per kind of file; each is given a file that begins as its kind
// does. Internal to runtime/image. Errors: as decode_image(), and std::bad_alloc.
#pragma once

#include <span>

#include "base/status.h"
#include "runtime/image/pixels.h"

namespace splitee::runtime {

Result<Image> decode_png(std::span<const std::byte> file);
Result<Image> decode_jpeg(std::span<const std::byte> file);
Result<Image> decode_pnm(std::span<const std::byte> file);

}  // namespace splitee::runtime
