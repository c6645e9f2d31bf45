// Pictures as pixels: PNG (libpng), JPEG (libjpeg-turbo), and PGM and PPM (binary, 8 bits).
// Transparency is dropped, grey becomes RGB; of a PNG of 16 bits the upper 8 count.
//
// Files are hostile: sizes are checked before anything is allocated, a file that is cut off or
// damaged is an error, and so is one of which the decoder has to guess a part.
// Thread rule: re-entrant. Errors: kCorrupt for a broken picture, kUnsupported for one that is too
// large or of another kind; kIo where memory lacks. No exception leaves.
#pragma once

#include <cstddef>
#include <span>

#include "base/status.h"
#include "runtime/image/pixels.h"

namespace splitee::runtime {

// Of a file; a server queues 16 MiB of an edge.
inline constexpr std::size_t kMaxImageBytes = std::size_t{15} << 20;

Result<Image> decode_image(std::span<const std::byte> file);

// Fails where the first bytes are not those of a kind of file above, or where there are too many:
// what is cheap to know.
Status check_image_kind(std::span<const std::byte> file);

}  // namespace splitee::runtime
