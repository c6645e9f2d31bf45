// PGM and PPM, binary (netpbm's P5 and P6), one image to a file.
#include <algorithm>
#include <cctype>
#include <cstdint>
#include <optional>

#include "runtime/image/decoders.h"

namespace splitee::runtime {
namespace {

Status corrupt(const char* what) {
  return {Code::kCorrupt, what};
}

class Header {
 public:
  explicit Header(std::span<const std::byte> file) : file_(file), at_(2) {}

  // The next number, after white space and comments; nothing where there is none.
  std::optional<std::uint32_t> number() {
    skip();
    constexpr std::uint32_t kMost = 1u << 24;
    std::uint32_t value = 0;
    const std::size_t begin = at_;
    while (at_ < file_.size() && std::isdigit(here()) != 0 && value < kMost) {
      value = value * 10 + static_cast<std::uint32_t>(here() - '0');
      ++at_;
    }
    if (at_ == begin || value >= kMost) return std::nullopt;
    return value;
  }
  // What follows the one white space behind the last number.
  std::optional<std::span<const std::byte>> rest() const {
    if (at_ >= file_.size() || std::isspace(here()) == 0) return std::nullopt;
    return file_.subspan(at_ + 1);
  }

 private:
  unsigned char here() const { return static_cast<unsigned char>(file_[at_]); }
  void skip() {
    bool comment = false;
    for (; at_ < file_.size(); ++at_) {
      if (here() == '#') comment = true;
      if (here() == '\n') comment = false;
      if (!comment && std::isspace(here()) == 0) return;
    }
  }

  std::span<const std::byte> file_;
  std::size_t at_;
};

}  // namespace

Result<Image> decode_pnm(std::span<const std::byte> file) {
  const bool colour = static_cast<char>(file[1]) == '6';
  Header header(file);
  const auto width = header.number(), height = header.number(), most = header.number();
  const auto data = header.rest();
  if (!width || !height || !most || !data) return corrupt("the header of the PGM or PPM is broken");
  if (*most == 0 || *most > 255) {
    return Status(Code::kUnsupported, "a PGM or PPM with values up to " + std::to_string(*most) +
                                          "; up to 255 are possible");
  }
  if (Status s = check_image_size(*width, *height); !s.ok()) return s;
  Image image{*width, *height, {}};
  const std::size_t count = image.width * image.height * (colour ? 3 : 1);
  if (data->size() < count) return corrupt("the PGM or PPM ends early");
  image.rgb.resize(image.width * image.height * 3);
  for (std::size_t i = 0; i < image.rgb.size(); ++i) {
    const auto value = static_cast<std::uint32_t>((*data)[colour ? i : i / 3]);
    if (value > *most) return corrupt("the PGM or PPM has a value above its largest");
    image.rgb[i] = static_cast<std::uint8_t>((value * 255 + *most / 2) / *most);
  }
  return image;
}

}  // namespace splitee::runtime
