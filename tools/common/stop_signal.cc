#include "tools/common/stop_signal.h"

#include <initializer_list>

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

namespace splitee::tools {

namespace {

sigset_t set_of(std::initializer_list<int> numbers) {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : numbers) sigaddset(&set, number);
  return set;
}

bool hangup_ignored() {
  struct sigaction action;
  return sigaction(SIGHUP, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

int blocked_and_readable(const sigset_t& set) {
  const int fd = ::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  if (fd >= 0) pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return fd;
}

bool take(int fd) {
  signalfd_siginfo info;
  return fd >= 0 && ::read(fd, &info, sizeof info) == static_cast<ssize_t>(sizeof info);
}

}  // namespace

void StopSignal::begin(Hangup hangup) {
  const bool reopens = hangup == Hangup::kReopens;
  sigset_t stops = set_of({SIGINT, SIGTERM});
  if (!hangup_ignored()) {
    if (reopens) {
      hangup_fd_ = blocked_and_readable(set_of({SIGHUP}));
    } else {
      sigaddset(&stops, SIGHUP);
    }
  }
  fd_ = blocked_and_readable(stops);
}

StopSignal::~StopSignal() {
  if (fd_ >= 0) ::close(fd_);
  if (hangup_fd_ >= 0) ::close(hangup_fd_);
}

bool StopSignal::received() {
  if (!received_ && take(fd_)) {
    received_ = true;
    // The next one ends the process. A terminal that goes away sends several: not they.
    const sigset_t set = set_of({SIGINT, SIGTERM});
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  }
  return received_;
}

bool StopSignal::take_hangup() {
  bool came = false;
  while (take(hangup_fd_)) came = true;
  return came;
}

}  // namespace splitee::tools
