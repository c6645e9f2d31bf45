#include "transport/job_queue.h"

#include <algorithm>

namespace splitee::transport {

JobQueue::JobQueue(std::size_t max_jobs, std::size_t max_bytes, std::size_t workers)
    : max_jobs_(max_jobs), max_bytes_(max_bytes), workers_(workers) {}

bool JobQueue::push(Job&& job) {
  const std::size_t bytes = job.infer.payload.size();
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || jobs_.size() >= max_jobs_ || bytes > max_bytes_ - bytes_) return false;
    jobs_.push_back(std::move(job));
    bytes_ += bytes;
  }
  ready_.notify_one();
  return true;
}

std::vector<Job> JobQueue::take_expired(std::int64_t now_us) {
  const std::lock_guard lock(mutex_);
  std::vector<Job> expired;
  const auto kept = std::stable_partition(
      jobs_.begin(), jobs_.end(), [now_us](const Job& job) { return job.expires_us > now_us; });
  for (auto it = kept; it != jobs_.end(); ++it) {
    bytes_ -= it->infer.payload.size();
    expired.push_back(std::move(*it));
  }
  jobs_.erase(kept, jobs_.end());
  return expired;
}

std::vector<Job> JobQueue::take(std::size_t most) {
  std::unique_lock lock(mutex_);
  ready_.wait(lock, [this] { return closed_ || !jobs_.empty(); });
  std::vector<Job> taken;
  const std::size_t share = (jobs_.size() + workers_ - 1) / workers_;
  const std::size_t count = std::min(most, share);
  for (auto it = jobs_.begin(); it != jobs_.end() && taken.size() < count;) {
    if (!taken.empty() && it->infer.layer != taken.front().infer.layer) {
      ++it;
      continue;
    }
    bytes_ -= it->infer.payload.size();
    taken.push_back(std::move(*it));
    it = jobs_.erase(it);
  }
  return taken;
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
  return jobs_.size();
}

}  // namespace splitee::transport
