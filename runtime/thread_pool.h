// Helper threads for the single products of one engine: one part of the work per thread.
// Thread rule: used by one thread at a time, the owner, which does a part itself.
// Errors: none; where the system refuses another thread, there are fewer.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
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

  // Calls task(part) once for each part in 0 .. threads() - 1, each on a thread of its own, and
  // returns when all are done. The task must not throw and must not use the pool.
  template <class Task>
  void run(const Task& task) {
    run_parts(
        [](const void* context, std::size_t part) { (*static_cast<const Task*>(context))(part); },
        &task);
  }

 private:
  using Call = void (*)(const void* context, std::size_t part);
  void run_parts(Call call, const void* context);
  void help(std::size_t part);
  // Spins for some microseconds, as the next product usually follows at once; then sleeps.
  template <class Condition>
  void wait_until(const Condition& condition);
  void wake_all();

  // The job: written by the owner before `round_` moves on, read by helpers after that.
  Call call_ = nullptr;
  const void* context_ = nullptr;
  bool stop_ = false;
  std::atomic<std::size_t> round_{0};
  std::atomic<std::size_t> pending_{0};  // helpers that have not finished this round
  std::mutex mutex_;                     // only for sleeping
  std::condition_variable changed_;
  std::vector<std::thread> helpers_;
};

}  // namespace splitee::runtime
