#include "tools/common/output_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "tools/common/console.h"

namespace splitee::tools {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBufferBytes = 64 * 1024;
constexpr std::chrono::seconds kFlushInterval{1};
constexpr std::chrono::milliseconds kPatienceAfterStop{500};
constexpr int kOpenAgainMs = 50;  // while nobody has opened the other end of a FIFO

Status io_error(const std::string& name, const char* what) {
  return Status(Code::kIo, name + ": " + what + ": " + std::strerror(errno));
}

bool same_file(const std::string& output, const std::string& input) {
  struct stat out, in;
  if (::stat(output.c_str(), &out) != 0 || !S_ISREG(out.st_mode)) return false;
  const int found = input == "-" ? ::fstat(STDIN_FILENO, &in) : ::stat(input.c_str(), &in);
  return found == 0 && out.st_dev == in.st_dev && out.st_ino == in.st_ino;
}

// Waits until somebody has opened the FIFO for reading, or a signal comes.
int open_fifo(const std::string& path, StopSignal* stop) {
  for (;;) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0 || errno != ENXIO) return fd;
    pollfd signal{stop != nullptr ? stop->fd() : -1, POLLIN, 0};
    ::poll(&signal, 1, kOpenAgainMs);
    if (stop == nullptr || !stop->received()) continue;
    errno = EINTR;
    return -1;
  }
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

Status check_whole_output(const std::string& output, std::initializer_list<std::string> inputs) {
  if (output.empty()) return {};
  if (output == "-") {
    return Status(
        Code::kInvalidArgument,
        "-: the result is written as a whole file, not to standard output (./- is a file)");
  }
  Status apart = refuse_overwrite(output, inputs);
  return apart.ok() ? not_usage(check_replaceable(output)) : apart;
}

Status refuse_same_output(const std::string& output, const std::string& other) {
  if (output.empty() || other.empty() || output == "-" || other == "-") return {};
  std::error_code unknown, unknown_other;
  const fs::path place = fs::weakly_canonical(fs::absolute(output), unknown);
  const bool same = place == fs::weakly_canonical(fs::absolute(other), unknown_other);
  if ((unknown || unknown_other || !same) && !same_file(output, other)) return {};
  return Status(Code::kIo, output + ": is to be written twice");
}

Result<OutputFile> OutputFile::open(const std::string& path, StopSignal* stop, Existing existing) {
  OutputFile file;
  file.stop_ = stop;
  file.path_ = path;
  file.name_ = path == "-" ? "standard output" : path;
  Status status = file.open_end(existing == Existing::kReplaced);
  if (status.ok() && existing == Existing::kKept) status = file.end_last_line();
  if (!status.ok()) return status;
  file.last_flush_ = std::chrono::steady_clock::now();
  return file;
}

Status OutputFile::open_end(bool truncate) {
  if (path_ == "-") {
    end_ = WriteEnd::of_standard(STDOUT_FILENO);
    return end_.valid() ? Status() : io_error(name_, "cannot write");
  }
  struct stat info;
  if (::stat(path_.c_str(), &info) == 0 && S_ISFIFO(info.st_mode)) {
    end_ = WriteEnd(open_fifo(path_, stop_));
  } else {
    const int flags = O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    end_ = WriteEnd(::open(path_.c_str(), flags | (truncate ? O_TRUNC : 0), 0666));
  }
  return end_.valid() ? Status() : io_error(name_, "cannot open for writing");
}

// The last record may have been cut by a crash: the next one begins on a line of its own.
Status OutputFile::end_last_line() {
  struct stat info;
  if (!end_.regular() || ::fstat(end_.fd(), &info) != 0 || info.st_size == 0) return {};
  const int reader = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  char last = '\n';
  const bool read = reader >= 0 && ::pread(reader, &last, 1, info.st_size - 1) == 1;
  if (reader >= 0) ::close(reader);
  if (!read) return io_error(name_, "cannot read its last line");
  if (last != '\n' && end_.write("\n") != 1) return io_error(name_, "cannot write");
  return {};
}

// Under its name there may be another file by now, or none.
Status OutputFile::reopen() {
  if (Status status = write_buffer(); !status.ok()) return status;
  error_ = end_.close() ? open_end(false) : io_error(name_, "cannot write");
  return error_;
}

Status OutputFile::write(std::string_view record) {
  if (!error_.ok()) return error_;
  if (stop_ != nullptr && stop_->take_hangup()) {
    if (Status status = reopen(); !status.ok()) return status;
  }
  buffer_ += record;
  if (end_.regular() && buffer_.size() < kBufferBytes &&
      std::chrono::steady_clock::now() - last_flush_ < kFlushInterval) {
    return {};
  }
  return write_buffer();
}

Status OutputFile::wait_writable() {
  for (;;) {
    pollfd waits[2] = {{end_.fd(), POLLOUT, 0}, {stop_ != nullptr ? stop_->fd() : -1, POLLIN, 0}};
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
    if (stop_ != nullptr && stop_->received() && !give_up_at_) {
      give_up_at_ = std::chrono::steady_clock::now() + kPatienceAfterStop;
    }
  }
}

Status OutputFile::flush() {
  if (!error_.ok()) return error_;
  if (stop_ != nullptr && stop_->take_hangup()) return reopen();
  return write_buffer();
}

Status OutputFile::write_buffer() {
  std::size_t done = 0;
  Status status;
  while (done < buffer_.size() && status.ok()) {
    const ssize_t n = end_.write(std::string_view(buffer_).substr(done));
    if (n < 0) status = io_error(name_, "cannot write");
    if (n == 0) status = wait_writable();
    if (n > 0) done += static_cast<std::size_t>(n);
  }
  const std::size_t whole = buffer_.rfind('\n', done - 1) + 1;  // 0 where there is none
  const auto written = std::string_view(buffer_).substr(0, done == 0 ? 0 : whole);
  records_ += static_cast<std::uint64_t>(std::ranges::count(written, '\n'));
  error_ = status;
  if (!status.ok() && end_.regular()) take_back(done - written.size());
  buffer_.clear();
  last_flush_ = std::chrono::steady_clock::now();
  return status;
}

void OutputFile::take_back(std::size_t bytes) {
  struct stat info;
  if (bytes == 0 || ::fstat(end_.fd(), &info) != 0) return;
  const auto taken = static_cast<off_t>(bytes);
  if (info.st_size >= taken) (void)!::ftruncate(end_.fd(), info.st_size - taken);
}

Status OutputFile::close() {
  Status status = error_.ok() ? write_buffer() : error_;
  if (!end_.close() && status.ok()) status = io_error(name_, "cannot write");
  return status;
}

}  // namespace splitee::tools
