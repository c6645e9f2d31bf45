#include "runtime/thread_pool.h"

#include <chrono>
#include <system_error>

#include <sched.h>

namespace splitee::runtime {
namespace {

constexpr unsigned kLeftBits = 32;
constexpr std::uint64_t kLeftMask = (std::uint64_t{1} << kLeftBits) - 1;
// Longer than the gaps between two products, shorter than a time slice that another process
// could use.
constexpr std::chrono::microseconds kSpin(50);
constexpr int kSpins = 64;
constexpr int kNoCore = -1;

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__ARM_ARCH_7A__)
  asm volatile("yield");
#endif
}

int current_core() {
#ifdef __EMSCRIPTEN__
  return 0;  // for the linker: no thread can be started, so that nobody asks
#else
  return ::sched_getcpu();
#endif
}

}  // namespace

ThreadPool::ThreadPool(std::size_t threads) : cores_(threads) {
  for (std::atomic<int>& core : cores_) core.store(kNoCore, std::memory_order_relaxed);
  if (threads < 2) return;
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

void ThreadPool::run_pieces(const Job& job) {
  cores_[0].store(current_core(), std::memory_order_relaxed);
  job_ = job;
  unfinished_.store(job.pieces, std::memory_order_relaxed);
  work_ = ((work_.load(std::memory_order_relaxed) >> kLeftBits) + 1) << kLeftBits | job.pieces;
  wake_all();
  take_pieces(0);
  wait_until(0, [this] { return unfinished_ == 0; });
}

void ThreadPool::take_pieces(std::size_t worker) {
  std::uint64_t work = work_;
  while ((work & kLeftMask) != 0) {
    const auto left = static_cast<std::size_t>(work & kLeftMask);
    const std::size_t taken = taken_of(left);
    if (!work_.compare_exchange_weak(work, work - taken)) continue;
    // These pieces are not finished, so the job stays what it is.
    const std::size_t first = job_.pieces - left;
    job_.call(job_.context, worker, job_.count * first / job_.pieces,
              job_.count * (first + taken) / job_.pieces);
    if (unfinished_.fetch_sub(taken) == taken) wake_all();
    work = work_;
  }
}

void ThreadPool::help(std::size_t worker) {
  for (;;) {
    wait_until(worker, [this] { return (work_ & kLeftMask) != 0 || stop_; });
    if (stop_) return;
    take_pieces(worker);
  }
}

template <class Condition>
void ThreadPool::wait_until(std::size_t worker, const Condition& condition) {
  const auto give_up = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kSpins; ++i) {
      if (condition()) return;
      relax();
    }
    // Whoever is waited for may have to run on this very core.
    if (shares_core(worker)) std::this_thread::yield();
  } while (std::chrono::steady_clock::now() < give_up);
  cores_[worker].store(kNoCore, std::memory_order_relaxed);
  std::unique_lock lock(mutex_);
  ++sleepers_;
  changed_.wait(lock, condition);
  --sleepers_;
}

bool ThreadPool::shares_core(std::size_t worker) {
  const int core = current_core();
  cores_[worker].store(core, std::memory_order_relaxed);
  for (std::size_t other = 0; other < cores_.size(); ++other) {
    if (other != worker && cores_[other].load(std::memory_order_relaxed) == core) return true;
  }
  return false;
}

void ThreadPool::wake_all() {
  // A sleeper counts itself before it looks at its condition, so either it is seen here or it sees
  // the change. Taking the mutex orders this after a look that came before the change.
  if (sleepers_ == 0) return;
  { const std::lock_guard lock(mutex_); }
  changed_.notify_all();
}

}  // namespace splitee::runtime
