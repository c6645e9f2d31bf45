#include "tools/common/line_reader.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

namespace splitee::tools {

namespace {

constexpr std::size_t kReadBytes = 64 * 1024;
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

}  // namespace

Result<LineReader> LineReader::open(const std::string& path, int stop_fd) {
  LineReader reader;
  reader.stop_fd_ = stop_fd;
  reader.name_ = path == "-" ? "standard input" : path;
  reader.fd_ =
      path == "-" ? ::dup(STDIN_FILENO) : ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (reader.fd_ < 0) {
    const Code code = errno == ENOENT ? Code::kNotFound : Code::kIo;
    return Status(code, reader.name_ + ": cannot open: " + std::strerror(errno));
  }
  struct stat info;
  if (::fstat(reader.fd_, &info) == 0) {
    reader.is_folder_ = S_ISDIR(info.st_mode);
    if (S_ISREG(info.st_mode)) reader.total_bytes_ = static_cast<std::uint64_t>(info.st_size);
  }
  return reader;
}

LineReader LineReader::of_text(std::string name, std::string text) {
  LineReader reader;
  reader.name_ = std::move(name);
  reader.bytes_read_ = reader.total_bytes_ = text.size();
  reader.buffer_ = std::move(text);
  reader.ended_ = true;
  return reader;
}

LineReader::LineReader(LineReader&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      stop_fd_(other.stop_fd_),
      name_(std::move(other.name_)),
      buffer_(std::move(other.buffer_)),
      begin_(other.begin_),
      searched_(other.searched_),
      line_number_(other.line_number_),
      bytes_read_(other.bytes_read_),
      total_bytes_(other.total_bytes_),
      ended_(other.ended_),
      is_folder_(other.is_folder_),
      stopped_(other.stopped_),
      dropping_(other.dropping_),
      too_long_(other.too_long_) {}

LineReader::~LineReader() {
  if (fd_ >= 0) ::close(fd_);
}

Result<bool> LineReader::fill() {
  buffer_.erase(0, begin_);
  begin_ = 0;
  const std::size_t held = buffer_.size();
  for (;;) {
    pollfd waits[2] = {{fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
    if (::poll(waits, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return Status(Code::kIo, name_ + ": cannot wait: " + std::strerror(errno));
    }
    if (waits[1].revents != 0) {
      stopped_ = true;
      return false;
    }
    buffer_.resize(held + kReadBytes);
    const ssize_t n = ::read(fd_, buffer_.data() + held, kReadBytes);
    const int error = errno;
    buffer_.resize(held + (n > 0 ? static_cast<std::size_t>(n) : 0));
    // Another reader of the same pipe was faster.
    if (n < 0 && (error == EINTR || error == EAGAIN)) continue;
    if (n < 0) return Status(Code::kIo, name_ + ": cannot read: " + std::strerror(error));
    bytes_read_ += static_cast<std::uint64_t>(n);
    return n > 0;
  }
}

void LineReader::drop_overlong() {
  if (!dropping_ && buffer_.size() - begin_ <= kMaxLineBytes) return;
  dropping_ = true;
  buffer_.clear();
  begin_ = searched_ = 0;
}

std::string_view LineReader::take_line(std::size_t length, std::size_t end_length) {
  std::string_view line(buffer_.data() + begin_, length);
  begin_ += length + end_length;
  searched_ = 0;
  too_long_ = std::exchange(dropping_, false) || length > kMaxLineBytes;
  if (too_long_) line = {};
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line_number_++ == 0 && line.starts_with(kByteOrderMark)) {
    line.remove_prefix(kByteOrderMark.size());
  }
  return line;
}

std::size_t LineReader::find_end() {
  const std::size_t end = buffer_.find('\n', begin_ + searched_);
  searched_ = end == std::string::npos ? buffer_.size() - begin_ : 0;
  return end == std::string::npos ? end : end - begin_;
}

Result<std::optional<std::string_view>> LineReader::next() {
  for (;;) {
    const std::size_t length = find_end();
    if (length != std::string::npos) return std::optional(take_line(length, 1));
    drop_overlong();
    if (!ended_) {
      Result<bool> more = fill();
      if (!more.ok()) return more.status();
      ended_ = !*more;
      if (*more) continue;
    }
    // A line cut by a stop is not a line.
    const std::size_t held = buffer_.size() - begin_;
    if ((held == 0 && !dropping_) || stopped_) return std::optional<std::string_view>();
    return std::optional(take_line(held, 0));
  }
}

Result<std::optional<std::string_view>> LineReader::next_block(std::size_t bytes) {
  while (!ended_ && buffer_.size() - begin_ < bytes) {
    Result<bool> more = fill();
    if (!more.ok()) return more.status();
    ended_ = !*more;
  }
  const std::size_t held = buffer_.size() - begin_;
  if (held < bytes) {
    if (held == 0 || stopped_) return std::optional<std::string_view>();
    return Status(Code::kCorrupt, name_ + ": frame " + std::to_string(line_number_ + 1) +
                                      ": ends after " + std::to_string(held) + " of " +
                                      std::to_string(bytes) + " bytes");
  }
  const std::string_view block(buffer_.data() + begin_, bytes);
  begin_ += bytes;
  ++line_number_;
  return std::optional(block);
}

// A line, or a block of so many bytes.
bool LineReader::holds(std::size_t block_bytes) {
  return block_bytes > 0 ? buffer_.size() - begin_ >= block_bytes : find_end() != std::string::npos;
}

Result<bool> LineReader::ready(std::size_t block_bytes) {
  for (;;) {
    if (ended_ || holds(block_bytes)) return true;
    if (block_bytes == 0) drop_overlong();
    pollfd input{fd_, POLLIN, 0};
    if (::poll(&input, 1, 0) <= 0) return false;
    Result<bool> more = fill();
    if (!more.ok()) return more.status();
    ended_ = !*more;
  }
}

}  // namespace splitee::tools
