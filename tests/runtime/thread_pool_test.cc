#include "runtime/thread_pool.h"

#include <chrono>
#include <set>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

using splitee::runtime::ThreadPool;

TEST_CASE("ThreadPool: every part runs once per call, on its own thread, before run returns") {
  for (std::size_t threads = 1; threads <= 4; ++threads) {
    CAPTURE(threads);
    ThreadPool pool(threads);
    REQUIRE(pool.threads() == threads);
    std::vector<std::size_t> counts(threads, 0);  // not atomic: only one thread may write each
    std::vector<std::thread::id> ids(threads);
    for (std::size_t round = 1; round <= 2000; ++round) {
      pool.run([&](std::size_t part) {
        ++counts[part];
        ids[part] = std::this_thread::get_id();
      });
      bool all = true;
      for (const std::size_t count : counts) all = all && count == round;
      REQUIRE(all);
    }
    CHECK(std::set<std::thread::id>(ids.begin(), ids.end()).size() == threads);
    CHECK(ids[0] == std::this_thread::get_id());
  }
}

TEST_CASE("ThreadPool: helpers that went to sleep wake up, and a slow helper is waited for") {
  ThreadPool pool(3);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    std::vector<int> done(3, 0);
    pool.run([&](std::size_t part) {
      if (part == 2) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      done[part] = 1;
    });
    CHECK(done == std::vector<int>{1, 1, 1});
  }
}

TEST_CASE("ThreadPool: ends without having run") {
  const ThreadPool pool(4);
}
