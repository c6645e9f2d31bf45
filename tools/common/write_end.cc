#include "tools/common/write_end.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <string>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace splitee::tools {

WriteEnd::WriteEnd(int fd) : fd_(fd), kind_(Kind::kUnblocked) {
  struct stat info;
  // errno stays that of an open() that failed.
  if (fd >= 0 && ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) kind_ = Kind::kRegular;
}

WriteEnd WriteEnd::of_standard(int fd) {
  struct stat info;
  if (::fstat(fd, &info) != 0) return {};
  // Opened anew, one that is only for reading would become writable.
  const bool writable = (::fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY;
  if (writable && (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode))) {
    const std::string name = "/proc/self/fd/" + std::to_string(fd);
    const int own = ::open(name.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own >= 0) return WriteEnd(own, Kind::kUnblocked);
  }
  const int own = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (S_ISREG(info.st_mode)) return WriteEnd(own, Kind::kRegular);
  return WriteEnd(own, S_ISSOCK(info.st_mode) ? Kind::kSocket : Kind::kShared);
}

WriteEnd::WriteEnd(WriteEnd&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), kind_(other.kind_) {}

WriteEnd& WriteEnd::operator=(WriteEnd&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(kind_, other.kind_);
  return *this;
}

WriteEnd::~WriteEnd() {
  if (fd_ >= 0) ::close(fd_);
}

ssize_t WriteEnd::write(std::string_view text) const {
  for (;;) {
    ssize_t n = -1;
    if (kind_ == Kind::kSocket) {
      n = ::send(fd_, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    } else if (kind_ == Kind::kShared) {
      // With room for some bytes there is room for PIPE_BUF, unless another program takes it.
      pollfd item{fd_, POLLOUT, 0};
      if (::poll(&item, 1, 0) == 0) return 0;
      n = ::write(fd_, text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));
    } else {
      n = ::write(fd_, text.data(), text.size());
    }
    if (n < 0 && errno == EINTR) continue;
    return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? 0 : n;
  }
}

bool WriteEnd::close() {
  return ::close(std::exchange(fd_, -1)) == 0;
}

}  // namespace splitee::tools
