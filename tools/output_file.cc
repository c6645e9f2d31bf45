#include "tools/output_file.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace splitee::tools {

using runtime::Code;
using runtime::Result;
using runtime::Status;

namespace {

constexpr std::size_t kBufferBytes = 64 * 1024;
constexpr std::chrono::seconds kFlushInterval{1};

Status io_error(const std::string& name, const char* what) {
  return Status(Code::kIo, name + ": " + what + ": " + std::strerror(errno));
}

bool same_file(const std::string& a, const std::string& b) {
  struct stat sa, sb;
  return ::stat(a.c_str(), &sa) == 0 && ::stat(b.c_str(), &sb) == 0 && S_ISREG(sa.st_mode) &&
         sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

}  // namespace

Status check_not_input(const std::string& path, std::initializer_list<std::string> inputs) {
  for (const std::string& input : inputs) {
    if (!same_file(path, input)) continue;
    return Status(Code::kIo, path + ": is an input too; it would be overwritten");
  }
  return {};
}

Result<OutputFile> OutputFile::open(const std::string& path,
                                    std::initializer_list<std::string> inputs) {
  OutputFile file;
  if (path == "-") {
    file.name_ = "standard output";
    file.fd_ = ::dup(STDOUT_FILENO);
    if (file.fd_ < 0) return io_error(file.name_, "cannot write");
  } else {
    file.name_ = path;
    if (Status status = check_not_input(path, inputs); !status.ok()) return status;
    file.fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file.fd_ < 0) return io_error(path, "cannot open for writing");
  }
  struct stat info;
  file.buffered_ = ::fstat(file.fd_, &info) == 0 && S_ISREG(info.st_mode);
  file.last_flush_ = std::chrono::steady_clock::now();
  return file;
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      buffered_(other.buffered_),
      name_(std::move(other.name_)),
      buffer_(std::move(other.buffer_)),
      last_flush_(other.last_flush_) {}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

Status OutputFile::write(std::string_view record) {
  buffer_ += record;
  if (buffered_ && buffer_.size() < kBufferBytes &&
      std::chrono::steady_clock::now() - last_flush_ < kFlushInterval) {
    return {};
  }
  return flush();
}

Status OutputFile::flush() {
  std::size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t n = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const Status status = io_error(name_, "cannot write");
      buffer_.clear();
      return status;
    }
    done += static_cast<std::size_t>(n);
  }
  buffer_.clear();
  last_flush_ = std::chrono::steady_clock::now();
  return {};
}

Status OutputFile::close() {
  Status status = flush();
  const int fd = std::exchange(fd_, -1);
  if (::close(fd) != 0 && status.ok()) status = io_error(name_, "cannot write");
  return status;
}

}  // namespace splitee::tools
