#include "tools/edge/newest_frame.h"

#include <cerrno>
#include <cstdint>
#include <memory>
#include <system_error>
#include <utility>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace splitee::tools {

namespace {

void signal_event(int fd) {
  const std::uint64_t one = 1;
  // It can only fail where it is readable already.
  if (::write(fd, &one, sizeof one) < 0) return;
}

void clear_event(int fd) {
  std::uint64_t count = 0;
  if (::read(fd, &count, sizeof count) < 0) return;  // it was clear
}

}  // namespace

NewestFrame::NewestFrame(SampleReader& samples, int fd, int end_fd)
    : samples_(samples), is_file_(samples.lines().total_bytes() > 0), fd_(fd), end_fd_(end_fd) {}

Result<std::unique_ptr<NewestFrame>> NewestFrame::start(SampleReader& samples) {
  const int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  const int end_fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  std::unique_ptr<NewestFrame> made(new NewestFrame(samples, fd, end_fd));
  if (fd < 0 || end_fd < 0) return Status(Code::kIo, "no descriptors are left to read frames");
  try {
    made->thread_ = std::thread([own = made.get()] { own->read(); });
  } catch (const std::system_error&) {
    return Status(Code::kIo, "no thread is left to read frames");
  }
  return made;
}

NewestFrame::~NewestFrame() {
  std::deque<std::uint64_t> late;
  end(late);
  if (fd_ >= 0) ::close(fd_);
  if (end_fd_ >= 0) ::close(end_fd_);
}

bool NewestFrame::go_on(bool wait) const {
  pollfd waits[2] = {{samples_.lines().fd(), POLLIN, 0}, {end_fd_, POLLIN, 0}};
  while (::poll(waits, 2, wait ? -1 : 0) < 0) {
    if (errno != EINTR) return true;  // reading will say what is wrong
  }
  return waits[1].revents == 0;
}

bool NewestFrame::read_row(Sample& sample) {
  Result<SampleReader::Row> row = samples_.next_row(sample);
  const bool more = row.ok() && *row != SampleReader::Row::kEnd;
  const std::lock_guard lock(mutex_);
  if (!more) {
    ended_ = true;
    status_ = row.status();
  } else if (*row == SampleReader::Row::kSample) {
    if (newest_) late_.push_back(newest_->id);
    newest_ = std::move(sample);
    read_ = Stopwatch();
  }
  signal_event(fd_);
  return more;
}

void NewestFrame::read() {
  Sample sample;
  for (;;) {
    // What is held may be several frames, or a part of one.
    const Result<bool> ready = samples_.ready();
    const bool waits = ready.ok() && !*ready;
    if (!go_on(waits)) return;
    if (!waits && !read_row(sample)) return;
  }
}

void NewestFrame::hand_out_late(std::deque<std::uint64_t>& late) {
  late.insert(late.end(), late_.begin(), late_.end());
  late_.clear();
}

Result<SampleReader::Row> NewestFrame::take(Sample& sample, std::deque<std::uint64_t>& late) {
  const std::lock_guard lock(mutex_);
  if (!newest_ && ended_) {
    return status_.ok() ? Result<SampleReader::Row>(SampleReader::Row::kEnd) : status_;
  }
  if (!ended_) clear_event(fd_);
  if (!newest_ || (is_file_ && !ended_)) return SampleReader::Row::kNoSample;
  hand_out_late(late);
  sample = *std::exchange(newest_, std::nullopt);
  sample.age_us = read_.elapsed_us();
  return SampleReader::Row::kSample;
}

void NewestFrame::end(std::deque<std::uint64_t>& late) {
  if (!thread_.joinable()) return;
  signal_event(end_fd_);
  thread_.join();
  const std::lock_guard lock(mutex_);
  hand_out_late(late);
  if (newest_) late.push_back(newest_->id);
  newest_.reset();
}

}  // namespace splitee::tools
