#include <chrono>
#include <string>

#include <doctest/doctest.h>

#include "tools/common/notices.h"
#include "tools/common/progress.h"

namespace splitee::tools {
namespace {

using std::chrono::milliseconds;

TEST_CASE("notices: the same one once, a few at once, then one a second with what was left out") {
  NoticeLimit limit;
  const auto start = NoticeLimit::Clock::time_point() + milliseconds(1'000'000);
  CHECK(limit.pass("up", start) == "up");
  CHECK(!limit.pass("up", start));
  for (int i = 0; i < 4; ++i) CHECK(limit.pass(std::to_string(i), start));
  for (int i = 4; i < 1000; ++i) {
    CHECK(!limit.pass(std::to_string(i), start + milliseconds(i - 4)));
  }
  CHECK(limit.pass("down", start + milliseconds(1001)) ==
        "down (996 notices before it were left out)");
  CHECK(!limit.pass("up", start + milliseconds(1500)));
  CHECK(limit.pass("up", start + milliseconds(2500)) == "up (1 notices before it were left out)");
  // A long pause lets a few pass again, not more.
  int passed = 0;
  for (int i = 0; i < 100; ++i) {
    passed += limit.pass(std::to_string(i), start + milliseconds(10'000'000)).has_value();
  }
  CHECK(passed == 5);
}

TEST_CASE("progress: share, count and the time left once there is something to judge by") {
  CHECK(progress_text(0, 0, 17, "samples", 5) == "17 samples");
  CHECK(progress_text(0, 10, 0, "samples", 5) == "[                        ]   0 %  0 samples");
  CHECK(progress_text(1, 4, 25, "samples", 0.5) == "[======                  ]  25 %  25 samples");
  CHECK(progress_text(1, 4, 25, "runs", 2) ==
        "[======                  ]  25 %  25 runs, 6 s left");
  CHECK(progress_text(1, 2, 1, "x", 90) ==
        "[============            ]  50 %  1 x, 1 min 30 s left");
  CHECK(progress_text(1, 5, 1, "x", 3600) ==
        "[====                    ]  20 %  1 x, 4 h 0 min left");
  CHECK(progress_text(4, 4, 9, "x", 90) == "[========================] 100 %  9 x");
}

}  // namespace
}  // namespace splitee::tools
