#include "transport/server/job_queue.h"

namespace splitee::transport {

Admission JobQueue::push(Job&& job, std::int64_t now_us, std::vector<Job>& expired,
                         std::vector<Job>& displaced) {
  Admission admission;
  bool second, quick;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return Admission::kFull;
    quick = scheduler_.idle() && scheduler_.quick(job.work, quick_us_);
    admission = scheduler_.push(std::move(job), now_us, expired, displaced);
    if (admission != Admission::kTaken) return admission;
    second = quick_;
    quick_ = quick;
  }
  if (second) {
    ready_.notify_all();
  } else if (!quick) {
    ready_.notify_one();
  }
  return admission;
}

bool JobQueue::wait() {
  std::unique_lock lock(mutex_);
  ready_.wait(lock, [this] { return closed_ || (scheduler_.size() != 0 && !quick_); });
  return scheduler_.size() != 0;
}

std::vector<Job> JobQueue::take(std::int64_t now_us) {
  const std::lock_guard lock(mutex_);
  return scheduler_.take(now_us);
}

std::vector<Job> JobQueue::take_quick(std::int64_t now_us) {
  const std::lock_guard lock(mutex_);
  if (!quick_) return {};
  quick_ = false;
  try {
    return scheduler_.take(now_us);
  } catch (...) {
    // It still waits: for the workers now.
    ready_.notify_all();
    throw;
  }
}

void JobQueue::finished(std::uint64_t work, std::uint64_t run_work, std::int64_t elapsed_us) {
  const std::lock_guard lock(mutex_);
  scheduler_.finished(work, run_work, elapsed_us);
}

void JobQueue::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  ready_.notify_all();
}

std::size_t JobQueue::size() const {
  const std::lock_guard lock(mutex_);
  return scheduler_.size();
}

std::size_t JobQueue::bytes() const {
  const std::lock_guard lock(mutex_);
  return scheduler_.bytes();
}

}  // namespace splitee::transport
