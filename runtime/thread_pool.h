// Helper threads for the single products of one engine. Work is cut into a few chunks per thread,
// which threads take as they get to them: a thread that the system holds up, or that sleeps, leaves
// its chunks to the others.
// Thread rule: used by one thread at a time, the owner, which works too.
// Errors: none; where the system refuses another thread, there are fewer.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace splitee::runtime {

class ThreadPool {
 public:
  // `threads` counts the owner.
  explicit ThreadPool(std::size_t threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  std::size_t threads() const { return helpers_.size() + 1; }

  // Calls body(worker, begin, end) for ranges that together are 0 .. count - 1, and returns when
  // all are done. `worker` is below threads(), and never the same in two calls at the same time.
  // The body must not throw and must not use the pool.
  template <class Body>
  void share(std::size_t count, const Body& body) {
    const std::size_t chunks = helpers_.empty() ? 1 : std::min(count, kChunks * threads());
    if (chunks > 1) {
      run_chunks({[](const void* context, std::size_t worker, std::size_t begin, std::size_t end) {
                    (*static_cast<const Body*>(context))(worker, begin, end);
                  },
                  &body, count, chunks});
    } else if (count != 0) {
      body(std::size_t{0}, std::size_t{0}, count);
    }
  }

 private:
  static constexpr std::size_t kChunks = 4;  // per thread
  struct Job {
    void (*call)(const void* context, std::size_t worker, std::size_t begin,
                 std::size_t end) = nullptr;
    const void* context = nullptr;
    std::size_t count = 0, chunks = 0;
  };

  void run_chunks(const Job& job);
  // Works until no chunk is left to take.
  void take_chunks(std::size_t worker);
  void help(std::size_t worker);
  // Spins for some microseconds, as the next product usually follows at once; then offers its core
  // to others; then sleeps.
  template <class Condition>
  void wait_until(const Condition& condition);
  void wake_all();

  // Written by the owner while no chunk is taken; read by who took one.
  Job job_;
  // Number of the job above, chunks left to take below kLeftBits: a chunk of an earlier job cannot
  // be taken by mistake.
  std::atomic<std::uint64_t> work_{0};
  std::atomic<std::size_t> unfinished_{0};  // chunks
  std::atomic<bool> stop_{false};
  std::atomic<std::size_t> sleepers_{0};
  std::mutex mutex_;  // only for sleeping
  std::condition_variable changed_;
  std::vector<std::thread> helpers_;
};

}  // namespace splitee::runtime
