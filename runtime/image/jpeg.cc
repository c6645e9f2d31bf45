// JPEG by libjpeg-turbo. Its errors are jumps: between setjmp() and the end of the reading there is
// nothing that would have to be destroyed.
#include <csetjmp>
#include <cstddef>
#include <cstdio>
// It needs stdio's types before.
#include <jpeglib.h>

#include "runtime/image/decoders.h"

namespace splitee::runtime {
namespace {

// A progressive file of a few bytes can ask for scan after scan of a large picture.
constexpr int kMostScans = 100;

struct Errors {
  jpeg_error_mgr manager;  // first: libjpeg points at it
  std::jmp_buf stop;
  char text[JMSG_LENGTH_MAX];
};

Errors* errors_of(j_common_ptr info) {
  return static_cast<Errors*>(static_cast<void*>(info->err));
}

void fail(j_common_ptr info) {
  Errors* errors = errors_of(info);
  errors->manager.format_message(info, errors->text);
  std::longjmp(errors->stop, 1);
}

// A warning means that pixels are guessed.
void tell(j_common_ptr info, int level) {
  if (level < 0) fail(info);
}

void check_scans(j_common_ptr info) {
  const auto* decompress = static_cast<j_decompress_ptr>(static_cast<void*>(info));
  if (decompress->input_scan_number <= kMostScans) return;
  Errors* errors = errors_of(info);
  std::snprintf(errors->text, sizeof errors->text, "it has too many scans");
  std::longjmp(errors->stop, 1);
}

class Reader {
 public:
  explicit Reader(std::span<const std::byte> file) : file_(file) {
    info_.err = jpeg_std_error(&errors_.manager);
    errors_.manager.error_exit = fail;
    errors_.manager.emit_message = tell;
    progress_.progress_monitor = check_scans;
  }
  Reader(const Reader&) = delete;
  ~Reader() {
    if (made_) jpeg_destroy_decompress(&info_);
  }

  // Width and height are known afterwards.
  bool read_header() {
    if (setjmp(errors_.stop) != 0) return false;
    jpeg_create_decompress(&info_);
    made_ = true;
    info_.progress = &progress_;
    jpeg_mem_src(&info_, reinterpret_cast<const unsigned char*>(file_.data()), file_.size());
    jpeg_read_header(&info_, TRUE);
    return true;
  }
  // Into (height, width, 3).
  bool read_pixels(std::uint8_t* rgb) {
    if (setjmp(errors_.stop) != 0) return false;
    info_.out_color_space = JCS_RGB;
    jpeg_start_decompress(&info_);
    while (info_.output_scanline < info_.output_height) {
      JSAMPROW row = rgb + std::size_t{3} * info_.output_width * info_.output_scanline;
      jpeg_read_scanlines(&info_, &row, 1);
    }
    jpeg_finish_decompress(&info_);
    return true;
  }

  const jpeg_decompress_struct& info() const { return info_; }
  Status error() const {
    return {Code::kCorrupt, "the JPEG is broken: " + std::string(errors_.text)};
  }

 private:
  std::span<const std::byte> file_;
  jpeg_decompress_struct info_{};
  jpeg_progress_mgr progress_{};
  Errors errors_{};
  bool made_ = false;
};

}  // namespace

Result<Image> decode_jpeg(std::span<const std::byte> file) {
  Reader reader(file);
  if (!reader.read_header()) return reader.error();
  const J_COLOR_SPACE space = reader.info().jpeg_color_space;
  if (space != JCS_GRAYSCALE && space != JCS_YCbCr && space != JCS_RGB) {
    return Status(Code::kUnsupported, "a JPEG that is neither grey nor RGB");
  }
  if (Status s = check_image_size(reader.info().image_width, reader.info().image_height); !s.ok()) {
    return s;
  }
  Image image{reader.info().image_width, reader.info().image_height, {}};
  image.rgb.resize(image.width * image.height * 3);
  if (!reader.read_pixels(image.rgb.data())) return reader.error();
  return image;
}

}  // namespace splitee::runtime
