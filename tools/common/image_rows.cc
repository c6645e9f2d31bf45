// Pictures: files that an input names, and raw frames. What is handed on are the bytes of a file as
// it is, or a PPM around a frame.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/image/image.h"
#include "tools/common/row_parser.h"

namespace splitee::tools {
namespace {

constexpr std::string_view kPath = "path", kLabel = "label";

Status corrupt(std::string what) {
  return Status(Code::kCorrupt, std::move(what));
}

Status failed(const std::string& path, const char* what) {
  return corrupt(fmt::format("{}: {}: {}", path, what, std::strerror(errno)));
}

struct Descriptor {
  int fd = -1;
  explicit Descriptor(const std::string& path)
      : fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {}
  Descriptor(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

// A regular file of a picture's size.
Status read_file(const std::string& path, std::string& bytes) {
  const Descriptor file(path);
  if (file.fd < 0) return failed(path, "cannot open");
  struct stat info;
  if (::fstat(file.fd, &info) != 0) return failed(path, "cannot open");
  if (!S_ISREG(info.st_mode)) return corrupt(path + ": is no file");
  if (static_cast<std::uint64_t>(info.st_size) > runtime::kMaxImageBytes) {
    return corrupt(fmt::format("{}: larger than {} bytes", path, runtime::kMaxImageBytes));
  }
  bytes.resize(static_cast<std::size_t>(info.st_size));
  std::size_t held = 0;
  while (held < bytes.size()) {
    const ssize_t n = ::read(file.fd, bytes.data() + held, bytes.size() - held);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed(path, "cannot read");
    if (n == 0) return corrupt(path + ": became shorter while it was read");
    held += static_cast<std::size_t>(n);
  }
  return {};
}

class ImageFiles final : public RowParser {
 public:
  ImageFiles(const runtime::NetworkInfo& info, std::string folder)
      : labels_(info), folder_(std::move(folder)) {}

  Result<bool> parse(std::string_view row, Sample& sample) override {
    const bool first = std::exchange(first_, false);
    if (first) split_fields(row, '\t', fields_);
    if (first && std::ranges::find(fields_, kPath) != fields_.end()) return take_header();
    if (row.empty()) return false;
    if (columns_ == 0) return take(row, sample);
    split_fields(row, '\t', fields_);
    if (fields_.size() != columns_) {
      return corrupt(
          fmt::format("{} field(s), but the header names {} columns", fields_.size(), columns_));
    }
    if (label_) {
      Result<std::optional<std::uint32_t>> truth = labels_.parse(fields_[*label_]);
      if (!truth.ok()) return truth.status();
      sample.truth = *truth;
    }
    return take(fields_[path_], sample);
  }

 private:
  // A header is no sample.
  Result<bool> take_header() {
    const auto path = find_column(fields_, kPath), label = find_column(fields_, kLabel);
    for (const auto* found : {&path, &label}) {
      if (!found->ok()) return found->status();
    }
    path_ = **path;
    label_ = *label;
    columns_ = fields_.size();
    return false;
  }

  // The kind of file is looked at; whether it can be decoded turns out where it is.
  Result<bool> take(std::string_view path, Sample& sample) {
    if (path.empty()) return corrupt("no path");
    if (path.find('\0') != std::string_view::npos) return corrupt("a path with a zero byte");
    const std::string whole = path.front() == '/' ? std::string(path) : folder_ + std::string(path);
    if (Status status = read_file(whole, sample.input.bytes); !status.ok()) return status;
    const Status kind = runtime::check_image_kind(std::as_bytes(std::span(sample.input.bytes)));
    if (!kind.ok()) return corrupt(whole + ": " + kind.message());
    sample.input.name = whole;
    return true;
  }

  LabelParser labels_;
  const std::string folder_;
  bool first_ = true;
  std::size_t columns_ = 0, path_ = 0;  // no columns: every line is a path
  std::optional<std::size_t> label_;
  std::vector<std::string_view> fields_;
};

class RawFrames final : public RowParser {
 public:
  explicit RawFrames(FrameSize frame) : frame_(frame) {}

  std::size_t row_bytes() const override { return 3 * frame_.width * frame_.height; }

  Result<bool> parse(std::string_view row, Sample& sample) override {
    const auto* pixels = reinterpret_cast<const std::uint8_t*>(row.data());
    sample.input.bytes = runtime::ppm_of(frame_.width, frame_.height, {pixels, row.size()});
    return true;
  }

 private:
  const FrameSize frame_;
};

}  // namespace

std::unique_ptr<RowParser> make_image_files(const runtime::NetworkInfo& info, std::string folder) {
  return std::make_unique<ImageFiles>(info, std::move(folder));
}

std::unique_ptr<RowParser> make_raw_frames(FrameSize frame) {
  return std::make_unique<RawFrames>(frame);
}

}  // namespace splitee::tools
