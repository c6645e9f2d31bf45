#include "transport/zmq/event.h"

#include <cerrno>
#include <cstdint>
#include <system_error>

#include <sys/eventfd.h>
#include <unistd.h>

namespace splitee::transport {

Event::Event() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

Event::~Event() {
  close(fd_);
}

void Event::signal() noexcept {
  // A handler must leave errno as it was. The only failure is a counter at its maximum, which is
  // readable too.
  const int saved = errno;
  const std::uint64_t one = 1;
  while (write(fd_, &one, sizeof one) < 0 && errno == EINTR) {
  }
  errno = saved;
}

void Event::clear() {
  std::uint64_t count;
  while (read(fd_, &count, sizeof count) < 0 && errno == EINTR) {
  }
}

}  // namespace splitee::transport
