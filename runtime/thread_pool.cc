#include "runtime/thread_pool.h"

#include <system_error>

namespace splitee::runtime {
namespace {

constexpr int kSpins = 1000;

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
  helpers_.reserve(threads - 1);
  try {
    for (std::size_t part = 1; part < threads; ++part) {
      helpers_.emplace_back([this, part] { help(part); });
    }
  } catch (const std::system_error&) {
    // Fewer helpers; the parts are counted from those that started.
  }
}

ThreadPool::~ThreadPool() {
  stop_ = true;
  round_.fetch_add(1, std::memory_order_release);
  wake_all();
  for (std::thread& helper : helpers_) helper.join();
}

void ThreadPool::run_parts(Call call, const void* context) {
  call_ = call;
  context_ = context;
  pending_.store(helpers_.size(), std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  wake_all();
  call(context, 0);
  wait_until([this] { return pending_.load(std::memory_order_acquire) == 0; });
}

void ThreadPool::help(std::size_t part) {
  for (std::size_t round = 1;; ++round) {
    wait_until([&] { return round_.load(std::memory_order_acquire) >= round; });
    if (stop_) return;
    call_(context_, part);
    if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) wake_all();
  }
}

template <class Condition>
void ThreadPool::wait_until(const Condition& condition) {
  for (int i = 0; i < kSpins; ++i) {
    if (condition()) return;
    relax();
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, condition);
}

void ThreadPool::wake_all() {
  // Taking the mutex orders this after the check of a thread that is about to sleep.
  { const std::lock_guard lock(mutex_); }
  changed_.notify_all();
}

}  // namespace splitee::runtime
