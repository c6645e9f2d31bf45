// The link model under a clock of its own, and the settings' text.
#include "tests/faults/shaper.h"

#include <string>

#include <doctest/doctest.h>

#include "tests/faults/settings.h"

using splitee::faults::apply_settings;
using splitee::faults::End;
using splitee::faults::Faults;
using splitee::faults::LinkFaults;
using splitee::faults::Shaper;

namespace {

std::string pattern(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 251);
  return bytes;
}

// Runs the shaper from event to event until nothing is left; when the last byte came.
std::int64_t drain(Shaper& shaper, std::string& out, std::int64_t now_us) {
  for (;;) {
    shaper.advance(now_us);
    out += shaper.arrived();
    shaper.take(shaper.arrived().size());
    const auto next_us = shaper.next_us();
    if (!next_us) return now_us;
    REQUIRE(*next_us > now_us);
    now_us = *next_us;
  }
}

}  // namespace

TEST_CASE("without faults everything passes at once") {
  const Faults faults;
  Shaper shaper(faults, 1);
  const std::string bytes = pattern(100'000);
  shaper.push(bytes, 5);
  CHECK(shaper.arrived() == bytes);
  CHECK_FALSE(shaper.next_us());
}

TEST_CASE("delay is a pipeline: pieces sent one after the other are on the way together") {
  Faults faults;
  faults.delay_us = 200'000;
  Shaper shaper(faults, 1);
  std::string sent, out;
  for (std::int64_t now_us = 0; now_us < 100'000; now_us += 1'000) {
    sent += pattern(100);
    shaper.push(pattern(100), now_us);
  }
  shaper.advance(199'999);
  CHECK(shaper.arrived().empty());
  shaper.advance(200'000);
  CHECK(shaper.arrived().size() == 100);
  CHECK(drain(shaper, out, 200'000) == 99'000 + 200'000);
  CHECK(out == sent);
}

TEST_CASE("rate: a message takes its size over the rate, however often it is looked at") {
  for (const std::uint64_t rate : {62'500u, 125'000u, 12'500'000u}) {
    for (const std::size_t size : {100u, 10'000u, 1'000'000u}) {
      Faults faults;
      faults.rate_bytes_s = rate;
      faults.delay_us = 1'000;
      Shaper shaper(faults, 1);
      std::string out;
      shaper.push(pattern(size), 7);
      for (std::int64_t now_us = 7; now_us < 1'000; now_us += 100) shaper.advance(now_us);
      const std::int64_t end_us = drain(shaper, out, 1'000);
      const double expected =
          7 + 1'000 + 1e6 * static_cast<double>(size) / static_cast<double>(rate);
      CAPTURE(rate);
      CAPTURE(size);
      CHECK(std::abs(static_cast<double>(end_us) - expected) <= 0.01 * expected + 2'000);
      CHECK(out == pattern(size));
    }
  }
}

TEST_CASE("an idle link saves nothing up; a changed rate holds at once") {
  Faults faults;
  faults.rate_bytes_s = 1'000;
  Shaper shaper(faults, 1);
  std::string out;
  shaper.push(pattern(1'000), 10'000'000);
  shaper.advance(10'500'000);
  faults.rate_bytes_s = 1'000'000;
  CHECK(drain(shaper, out, 10'500'000) <= 10'502'000);
  CHECK(out == pattern(1'000));
}

TEST_CASE("jitter keeps the order and depends on the seed only") {
  const auto run = [](std::uint64_t seed) {
    Faults faults;
    faults.jitter_us = 50'000;
    Shaper shaper(faults, seed);
    std::vector<std::size_t> arrived;
    for (int i = 0; i < 100; ++i) {
      shaper.push(pattern(10), i * 1'000);
      arrived.push_back(shaper.arrived().size());
    }
    std::string out, sent;
    drain(shaper, out, 100'000);
    for (int i = 0; i < 100; ++i) sent += pattern(10);
    CHECK(out == sent);
    return arrived;
  };
  CHECK(run(3) == run(3));
  CHECK(run(3) != run(4));
}

TEST_CASE("a stalled direction holds everything, and its sender after a full buffer") {
  Faults faults;
  faults.stalled = true;
  faults.buffer_bytes = 1'000;
  Shaper shaper(faults, 1);
  CHECK(shaper.wants_input());
  shaper.push(pattern(1'000), 0);
  shaper.advance(60'000'000);
  CHECK(shaper.arrived().empty());
  CHECK_FALSE(shaper.wants_input());
  faults.stalled = false;
  shaper.advance(60'000'001);
  CHECK(shaper.arrived() == pattern(1'000));
}

TEST_CASE("a reader that does not read holds the sender") {
  Faults faults;
  faults.buffer_bytes = 1'000;
  Shaper shaper(faults, 1);
  shaper.push(pattern(1'000), 0);
  CHECK_FALSE(shaper.wants_input());
  shaper.take(500);
  CHECK(shaper.wants_input());
  CHECK(shaper.arrived() == pattern(1'000).substr(500));
}

TEST_CASE("reset_at and cut_at end the stream behind exactly so many bytes") {
  for (const std::size_t at : {0u, 1u, 999u, 1'000u, 1'500u}) {
    Faults faults;
    (at % 2 == 0 ? faults.reset_at : faults.cut_at) = at;
    Shaper shaper(faults, 1);
    std::string out;
    shaper.push(pattern(1'000), 0);
    shaper.push(pattern(1'000), 1);
    CHECK_FALSE(shaper.wants_input());
    out += shaper.arrived();
    shaper.take(out.size());
    CHECK(out == (pattern(1'000) + pattern(1'000)).substr(0, at));
    CHECK(shaper.ended() == (at % 2 == 0 ? End::kReset : End::kClose));
  }
}

TEST_CASE("corrupt_at flips one bit of that byte, corrupt one of each byte with its probability") {
  Faults faults;
  faults.corrupt_at = 700;
  Shaper shaper(faults, 9);
  shaper.push(pattern(600), 0);
  shaper.push(pattern(600), 0);
  const std::string expected = pattern(600) + pattern(600);
  const std::string_view got = shaper.arrived();
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK((got[i] != expected[i]) == (i == 700));
  CHECK(shaper.corrupted() == 1);

  Faults often;
  often.corrupt_probability = 0.01;
  Shaper noisy(often, 9);
  noisy.push(pattern(100'000), 0);
  CHECK(noisy.corrupted() > 800);
  CHECK(noisy.corrupted() < 1'200);
}

TEST_CASE("the end comes behind what was sent before it") {
  Faults faults;
  faults.delay_us = 1'000;
  Shaper shaper(faults, 1);
  shaper.push("last words", 0);
  shaper.push_end(End::kReset);
  CHECK_FALSE(shaper.ended());
  shaper.advance(1'000);
  CHECK_FALSE(shaper.ended());
  shaper.take(10);
  CHECK(shaper.ended() == End::kReset);
}

TEST_CASE("settings") {
  LinkFaults faults;
  REQUIRE(
      apply_settings("delay_ms=1.5 up.mbit=100 down.rate=62.5K stall=1 reset_at=12", faults).ok());
  CHECK(faults.up.delay_us == 1'500);
  CHECK(faults.down.delay_us == 1'500);
  CHECK(faults.up.rate_bytes_s == 12'500'000);
  CHECK(faults.down.rate_bytes_s == 62'500);
  CHECK(faults.up.stalled);
  REQUIRE(apply_settings("up.stall=0 reset_at=off corrupt=0.5", faults).ok());
  CHECK_FALSE(faults.up.stalled);
  CHECK(faults.down.stalled);
  CHECK_FALSE(faults.up.reset_at);
  for (const std::string bad : {"delay_ms", "delay_ms=", "delay_ms=-1", "delay_ms=nan", "what=1",
                                "side.rate=1", "rate=1x", "delay_ms=off"}) {
    CAPTURE(bad);
    const auto status = apply_settings("rate=7 " + bad, faults);
    CHECK(status.message().find(bad) != std::string::npos);
    CHECK(faults.up.rate_bytes_s == 12'500'000);
  }
}
