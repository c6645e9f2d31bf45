#include "runtime/thread_pool.h"

#include <chrono>
#include <system_error>

namespace splitee::runtime {
namespace {

constexpr unsigned kLeftBits = 16;
constexpr std::uint64_t kLeftMask = (std::uint64_t{1} << kLeftBits) - 1;
// Longer than the gaps between two products, shorter than a time slice that another process
// could use.
constexpr std::chrono::microseconds kSpin(50);
constexpr int kSpins = 64;

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__ARM_ARCH_7A__)
  asm volatile("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(std::size_t threads) {
  if (threads < 2) return;
  threads = std::min<std::size_t>(threads, kLeftMask / kChunks);
  helpers_.reserve(threads - 1);
  try {
    for (std::size_t worker = 1; worker < threads; ++worker) {
      helpers_.emplace_back([this, worker] { help(worker); });
    }
  } catch (const std::system_error&) {
    // Fewer helpers.
  }
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  wake_all();
  for (std::thread& helper : helpers_) helper.join();
}

void ThreadPool::run_chunks(const Job& job) {
  job_ = job;
  unfinished_.store(job.chunks, std::memory_order_relaxed);
  work_ = ((work_.load(std::memory_order_relaxed) >> kLeftBits) + 1) << kLeftBits | job.chunks;
  wake_all();
  take_chunks(0);
  wait_until([this] { return unfinished_ == 0; });
}

void ThreadPool::take_chunks(std::size_t worker) {
  std::uint64_t work = work_;
  while ((work & kLeftMask) != 0) {
    if (!work_.compare_exchange_weak(work, work - 1)) continue;
    // This chunk is not finished, so the job stays what it is.
    const std::size_t index = job_.chunks - static_cast<std::size_t>(work & kLeftMask);
    job_.call(job_.context, worker, job_.count * index / job_.chunks,
              job_.count * (index + 1) / job_.chunks);
    if (unfinished_.fetch_sub(1) == 1) wake_all();
    work = work_;
  }
}

void ThreadPool::help(std::size_t worker) {
  for (;;) {
    wait_until([this] { return (work_ & kLeftMask) != 0 || stop_; });
    if (stop_) return;
    take_chunks(worker);
  }
}

template <class Condition>
void ThreadPool::wait_until(const Condition& condition) {
  for (int i = 0; i < kSpins; ++i) {
    if (condition()) return;
    relax();
  }
  // Whoever is waited for may have to run on this very core.
  const auto give_up = std::chrono::steady_clock::now() + kSpin;
  do {
    std::this_thread::yield();
    if (condition()) return;
  } while (std::chrono::steady_clock::now() < give_up);
  std::unique_lock lock(mutex_);
  ++sleepers_;
  changed_.wait(lock, condition);
  --sleepers_;
}

void ThreadPool::wake_all() {
  // A sleeper counts itself before it looks at its condition, so either it is seen here or it sees
  // the change. Taking the mutex orders this after a look that came before the change.
  if (sleepers_ == 0) return;
  { const std::lock_guard lock(mutex_); }
  changed_.notify_all();
}

}  // namespace splitee::runtime
