#include "tools/output_file.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

namespace splitee::tools {

using runtime::Code;
using runtime::Result;
using runtime::Status;

namespace {

constexpr std::size_t kBufferBytes = 64 * 1024;
constexpr std::chrono::seconds kFlushInterval{1};
constexpr std::chrono::seconds kPatienceAfterStop{5};

Status io_error(const std::string& name, const char* what) {
  return Status(Code::kIo, name + ": " + what + ": " + std::strerror(errno));
}

bool same_file(const std::string& output, const std::string& input) {
  struct stat out, in;
  if (::stat(output.c_str(), &out) != 0 || !S_ISREG(out.st_mode)) return false;
  const int found = input == "-" ? ::fstat(STDIN_FILENO, &in) : ::stat(input.c_str(), &in);
  return found == 0 && out.st_dev == in.st_dev && out.st_ino == in.st_ino;
}

}  // namespace

Status refuse_overwrite(const std::string& output, std::initializer_list<std::string> inputs) {
  if (output.empty() || output == "-") return {};
  for (const std::string& input : inputs) {
    if (input.empty() || !same_file(output, input)) continue;
    return Status(Code::kIo, output + ": is an input too; it would be overwritten");
  }
  return {};
}

Result<OutputFile> OutputFile::open(const std::string& path, StopSignal* stop) {
  OutputFile file;
  file.stop_ = stop;
  if (path == "-") {
    file.name_ = "standard output";
    file.fd_ = ::dup(STDOUT_FILENO);
    if (file.fd_ < 0) return io_error(file.name_, "cannot write");
  } else {
    file.name_ = path;
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
      stop_(other.stop_),
      give_up_at_(other.give_up_at_),
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

Status OutputFile::wait_writable() {
  if (buffered_ || stop_ == nullptr) return {};
  for (;;) {
    pollfd waits[2] = {{fd_, POLLOUT, 0}, {stop_->fd(), POLLIN, 0}};
    int timeout_ms = -1;
    if (give_up_at_) {
      using std::chrono::milliseconds;
      const auto left = *give_up_at_ - std::chrono::steady_clock::now();
      timeout_ms =
          std::max(0, static_cast<int>(std::chrono::duration_cast<milliseconds>(left).count()) + 1);
      waits[1].fd = -1;
    }
    const int ready = ::poll(waits, 2, timeout_ms);
    if (ready < 0 && errno != EINTR) return io_error(name_, "cannot wait");
    if (ready == 0) {
      return Status(Code::kIo, name_ +
                                   ": a signal came, and the reader does not read: the last "
                                   "records are lost");
    }
    if (ready > 0 && waits[0].revents != 0) return {};
    // Taken by the caller before, or now.
    if (stop_->received()) give_up_at_ = std::chrono::steady_clock::now() + kPatienceAfterStop;
  }
}

Status OutputFile::flush() {
  std::size_t done = 0;
  Status status;
  while (done < buffer_.size() && status.ok()) {
    status = wait_writable();
    if (!status.ok()) break;
    const std::size_t most = buffered_ || stop_ == nullptr ? buffer_.size() : PIPE_BUF;
    const ssize_t n = ::write(fd_, buffer_.data() + done, std::min(buffer_.size() - done, most));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) status = io_error(name_, "cannot write");
    if (n > 0) done += static_cast<std::size_t>(n);
  }
  buffer_.clear();
  last_flush_ = std::chrono::steady_clock::now();
  return status;
}

Status OutputFile::close() {
  Status status = flush();
  const int fd = std::exchange(fd_, -1);
  if (::close(fd) != 0 && status.ok()) status = io_error(name_, "cannot write");
  return status;
}

}  // namespace splitee::tools
