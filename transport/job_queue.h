// Requests between the server's I/O loop and its workers: bounded in number and in bytes.
// Thread rule: safe from any thread.
// Times are microseconds of one monotonic clock.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "transport/wire.h"

namespace splitee::transport {

// Whom an answer goes to.
struct Address {
  std::string peer;           // routing id
  std::uint64_t session = 0;  // serial number of the peer's session
  std::uint64_t request_id = 0;
};

// An accepted request.
struct Job {
  Address address;
  Infer infer;  // its payload is a view into `owner`
  std::shared_ptr<const void> owner;
  std::int64_t received_us = 0;
  std::int64_t expires_us = 0;
};

class JobQueue {
 public:
  JobQueue(std::size_t max_jobs, std::size_t max_bytes, std::size_t workers);

  // False where the queue is full or closed; the job is then untouched.
  bool push(Job&& job);
  // Removes what has expired.
  std::vector<Job> take_expired(std::int64_t now_us);
  // Waits for work: the oldest job and up to `most` - 1 more of the same layer, but no more than
  // this worker's share of what waits. Empty once the queue is closed and drained.
  std::vector<Job> take(std::size_t most);
  // No more pushes; take() ends when nothing is left.
  void close();
  std::size_t size() const;

 private:
  const std::size_t max_jobs_, max_bytes_, workers_;
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<Job> jobs_;
  std::size_t bytes_ = 0;
  bool closed_ = false;
};

}  // namespace splitee::transport
