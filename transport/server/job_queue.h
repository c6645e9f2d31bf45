// A Scheduler between the server's I/O loop and its workers.
// Thread rule: safe from any thread.
// Times are microseconds of one monotonic clock.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

#include "transport/server/scheduler.h"

namespace splitee::transport {

class JobQueue {
 public:
  // A request that comes when nothing else waits or runs, and that should be done in `quick_us`,
  // is left to take_quick(); workers are not woken for it. 0: never.
  explicit JobQueue(const SchedulerLimits& limits, std::int64_t quick_us = 0)
      : quick_us_(quick_us), scheduler_(limits) {}

  // As Scheduler::push(). Closed queues are full.
  Admission push(Job&& job, std::int64_t now_us, std::vector<Job>& expired,
                 std::vector<Job>& displaced);
  // Waits for work that a worker is to take; false once the queue is closed and drained.
  bool wait();
  // As Scheduler::take().
  std::vector<Job> take(std::int64_t now_us);
  // The request left for the caller, if it is still alone. To be called after every push() by its
  // thread, once no more pushes come at once.
  std::vector<Job> take_quick(std::int64_t now_us);
  // As Scheduler::finished().
  void finished(std::uint64_t work, std::uint64_t run_work, std::int64_t elapsed_us);
  // No more pushes; wait() ends when nothing is left.
  void close();

  std::size_t size() const;
  std::size_t bytes() const;

 private:
  const std::int64_t quick_us_;
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  Scheduler scheduler_;
  bool quick_ = false;  // one waits for take_quick()
  bool closed_ = false;
};

}  // namespace splitee::transport
