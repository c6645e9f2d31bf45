#include "tools/stop_signal.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace splitee::tools {

namespace {

sigset_t stop_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

StopSignal::StopSignal() {
  const sigset_t set = stop_signals();
  fd_ = ::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  if (fd_ >= 0) pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

StopSignal::~StopSignal() {
  if (fd_ >= 0) ::close(fd_);
}

bool StopSignal::received() {
  if (received_ || fd_ < 0) return received_;
  signalfd_siginfo info;
  if (::read(fd_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    received_ = true;
    const sigset_t set = stop_signals();
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  }
  return received_;
}

}  // namespace splitee::tools
