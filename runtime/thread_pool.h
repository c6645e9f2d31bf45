// Helper threads for the single products of one engine. Work is cut into pieces, of which threads
// take some as they get to them, fewer towards the end: a thread that the system holds up, or that
// sleeps, leaves the others to the rest, and all end at nearly the same time.
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
  // all are done. Ranges are of `grain` > 0 numbers or more, as far as there are so many. `worker`
  // is below threads(), and never the same in two calls at the same time. The body must not throw
  // and must not use the pool.
  template <class Body>
  void share(std::size_t count, std::size_t grain, const Body& body) {
    const std::size_t pieces = helpers_.empty() ? 1 : std::min(count / grain, kMostPieces);
    if (pieces > 1) {
      run_pieces({[](const void* context, std::size_t worker, std::size_t begin, std::size_t end) {
                    (*static_cast<const Body*>(context))(worker, begin, end);
                  },
                  &body, count, pieces});
    } else if (count != 0) {
      body(std::size_t{0}, std::size_t{0}, count);
    }
  }

 private:
  static constexpr std::size_t kMostPieces = std::size_t{1} << 20;
  struct Job {
    void (*call)(const void* context, std::size_t worker, std::size_t begin,
                 std::size_t end) = nullptr;
    const void* context = nullptr;
    std::size_t count = 0, pieces = 0;
  };

  // A taker gets one of so many parts of its fair share of what is left.
  static constexpr std::size_t kParts = 4;
  std::size_t taken_of(std::size_t left) const {
    return std::max<std::size_t>(1, left / (kParts * threads()));
  }

  void run_pieces(const Job& job);
  // Works until no piece is left to take.
  void take_pieces(std::size_t worker);
  void help(std::size_t worker);
  // Spins for some microseconds, as the next product usually follows at once; where another worker
  // was last seen on the same core, offers it that core instead. Then sleeps.
  template <class Condition>
  void wait_until(std::size_t worker, const Condition& condition);
  bool shares_core(std::size_t worker);
  void wake_all();

  // Written by the owner while no piece is taken; read by who took one.
  Job job_;
  // Number of the job above, pieces left to take below kLeftBits: a piece of an earlier job cannot
  // be taken by mistake.
  std::atomic<std::uint64_t> work_{0};
  std::atomic<std::size_t> unfinished_{0};  // pieces
  std::atomic<bool> stop_{false};
  std::atomic<std::size_t> sleepers_{0};
  std::mutex mutex_;  // only for sleeping
  std::condition_variable changed_;
  std::vector<std::atomic<int>> cores_;  // per worker: where it was last seen
  std::vector<std::thread> helpers_;
};

}  // namespace splitee::runtime
