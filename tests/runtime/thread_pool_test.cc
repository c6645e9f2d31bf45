#include "runtime/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

using splitee::runtime::ThreadPool;

namespace {

// Shares `count` items and returns whether each was done once, by workers that exist, and none in a
// range smaller than `grain`, if there are that many.
bool each_once(ThreadPool& pool, std::size_t count, std::size_t grain) {
  std::vector<int> done(count, 0);  // not atomic: only one thread may write each
  const std::size_t least = std::min(count, grain);
  std::atomic<bool> known{true};
  pool.share(count, grain, [&](std::size_t worker, std::size_t begin, std::size_t end) {
    if (worker >= pool.threads() || begin >= end || end > count) known = false;
    if (end - begin < least) known = false;
    for (std::size_t i = begin; i < end; ++i) ++done[i];
  });
  return known && done == std::vector<int>(count, 1);
}

}  // namespace

TEST_CASE("ThreadPool: every item is done once, before share returns") {
  for (std::size_t threads = 1; threads <= 4; ++threads) {
    ThreadPool pool(threads);
    REQUIRE(pool.threads() == threads);
    for (int round = 0; round < 200; ++round) {
      for (const std::size_t count : {0u, 1u, 2u, 3u, 7u, 16u, 61u}) {
        CAPTURE(threads);
        CAPTURE(count);
        for (const std::size_t grain : {1u, 2u, 5u}) REQUIRE(each_once(pool, count, grain));
      }
    }
  }
}

TEST_CASE("ThreadPool: a worker does one thing at a time, the owner is worker 0") {
  ThreadPool pool(3);
  const std::thread::id owner = std::this_thread::get_id();
  std::vector<std::atomic<int>> busy(3);
  std::atomic<bool> alone{true}, owner_is_0{true};
  for (int round = 0; round < 500; ++round) {
    pool.share(12, 1, [&](std::size_t worker, std::size_t, std::size_t) {
      if (busy[worker]++ != 0) alone = false;
      if ((worker == 0) != (std::this_thread::get_id() == owner)) owner_is_0 = false;
      std::this_thread::yield();
      --busy[worker];
    });
  }
  CHECK(alone);
  CHECK(owner_is_0);
}

TEST_CASE("ThreadPool: helpers take part, also after they went to sleep") {
  ThreadPool pool(2);
  for (int round = 0; round < 3; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    // The owner holds its first range until a helper has come.
    std::atomic<bool> helped{false};
    pool.share(8, 1, [&](std::size_t worker, std::size_t, std::size_t) {
      if (worker == 1) helped = true;
      while (!helped) std::this_thread::yield();
    });
    CHECK(helped);
  }
}

TEST_CASE("ThreadPool: a helper that is held up keeps one range, and is waited for") {
  ThreadPool pool(2);
  for (int round = 0; round < 3; ++round) {
    std::atomic<int> ranges{0}, of_helper{0}, of_owner{0};
    pool.share(8, 1, [&](std::size_t worker, std::size_t, std::size_t) {
      if (worker == 1) {
        ++of_helper;
        // Until the owner has done all others.
        while (of_owner + of_helper < 8) std::this_thread::yield();
      } else {
        while (of_helper == 0) std::this_thread::yield();
        ++of_owner;
      }
      ++ranges;
    });
    CHECK(ranges == 8);
    CHECK(of_helper == 1);
  }
}

TEST_CASE("ThreadPool: ends without having run") {
  const ThreadPool pool(4);
}
