#include "runtime/image/image.h"

#include <cstring>
#include <new>
#include <string_view>

#include "runtime/image/decoders.h"

namespace splitee::runtime {
namespace {

constexpr std::string_view kPngMagic = "\x89PNG\r\n\x1a\n", kJpegMagic = "\xff\xd8\xff";

using Decoder = Result<Image> (*)(std::span<const std::byte> file);

// Null where the first bytes are nobody's.
Decoder decoder_of(std::span<const std::byte> file) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (text.starts_with(kPngMagic)) return decode_png;
  if (text.starts_with(kJpegMagic)) return decode_jpeg;
  if (text.starts_with("P5") || text.starts_with("P6")) return decode_pnm;
  return nullptr;
}

}  // namespace

Status check_image_kind(std::span<const std::byte> file) {
  if (file.size() > kMaxImageBytes) {
    return {Code::kUnsupported, "a picture of " + std::to_string(file.size()) + " bytes; up to " +
                                    std::to_string(kMaxImageBytes) + " are possible"};
  }
  if (decoder_of(file) != nullptr) return {};
  return {Code::kUnsupported, "neither PNG nor JPEG nor binary PGM or PPM"};
}

Result<Image> decode_image(std::span<const std::byte> file) {
  if (Status s = check_image_kind(file); !s.ok()) return s;
  try {
    return decoder_of(file)(file);
  } catch (const std::bad_alloc&) {
    return Status(Code::kIo, "not enough memory for the picture");
  }
}

}  // namespace splitee::runtime
