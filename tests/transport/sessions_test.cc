#include "transport/server/sessions.h"

#include <doctest/doctest.h>

namespace splitee::transport {
TEST_CASE("delays are told from the differences between two clocks") {
  for (const std::uint64_t epoch : {std::uint64_t{0}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    CAPTURE(epoch);
    DelayMeter meter;
    CHECK(meter.measure(epoch, 5'000'000) == 0);
    CHECK(meter.measure(epoch + 1'000, 5'001'000) == 0);
    CHECK(meter.measure(epoch + 2'000, 5'005'000) == 3'000 - 2);
    // Faster than ever before: the new measure.
    CHECK(meter.measure(epoch + 10'000, 5'006'000) == 0);
    CHECK(meter.measure(epoch + 10'000, 5'007'000) == 1'000);
  }
}

TEST_CASE("clocks of different speed do not add up to a delay") {
  // 100 parts in a million: more than real clocks differ. An hour, a message a millisecond.
  DelayMeter meter;
  std::int64_t worst = 0;
  for (std::int64_t ms = 0; ms < 3'600'000; ++ms) {
    const std::int64_t now = 1'000 * ms;
    const auto sender = static_cast<std::uint64_t>(now - now / 10'000);
    worst = std::max(worst, meter.measure(sender, now));
  }
  CHECK(worst < 10);
}

TEST_CASE("a session belongs to one peer and one user") {
  SessionTable table(2);
  const std::uint64_t a = table.start("a", "key 1").serial;
  CHECK(table.find("a", "key 1") != nullptr);
  CHECK(table.find("a", "key 2") == nullptr);
  CHECK(table.find("b", "key 1") == nullptr);
  CHECK(table.find_serial("a", a) != nullptr);
  CHECK(table.find_serial("a", a + 1) == nullptr);
  const std::uint64_t again = table.start("a", "key 2").serial;
  CHECK(again != a);
  CHECK(table.find_serial("a", a) == nullptr);
  CHECK(table.size() == 1);
  table.start("b", "");
  table.find("a", "key 2");
  table.start("c", "");
  CHECK(table.size() == 2);
  CHECK(table.find("b", "") == nullptr);
  CHECK(table.find("a", "key 2") != nullptr);
}

}  // namespace splitee::transport
