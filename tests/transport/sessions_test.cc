#include "transport/sessions.h"

#include <doctest/doctest.h>

#include "transport/job_queue.h"

namespace splitee::transport {
namespace {

Job job_of(std::uint32_t layer, std::size_t bytes, std::int64_t expires_us, std::uint64_t id) {
  static const std::vector<std::byte> room(1'000);
  Job job;
  job.address.request_id = id;
  job.infer.layer = layer;
  job.infer.payload = std::span(room).first(bytes);
  job.expires_us = expires_us;
  return job;
}

std::vector<std::uint64_t> ids_of(const std::vector<Job>& jobs) {
  std::vector<std::uint64_t> ids;
  for (const Job& job : jobs) ids.push_back(job.address.request_id);
  return ids;
}

using Ids = std::vector<std::uint64_t>;

}  // namespace

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

TEST_CASE("the queue is bounded in number and bytes, and closed at the end") {
  JobQueue queue(3, 1'500, 1);
  CHECK(queue.push(job_of(1, 900, 0, 1)));
  CHECK_FALSE(queue.push(job_of(1, 601, 0, 2)));
  CHECK(queue.push(job_of(1, 600, 0, 3)));
  CHECK(queue.push(job_of(1, 0, 0, 4)));
  CHECK_FALSE(queue.push(job_of(1, 0, 0, 5)));
  CHECK(queue.size() == 3);
  CHECK(ids_of(queue.take(1)) == Ids{1});
  CHECK(queue.push(job_of(1, 900, 0, 6)));
  queue.close();
  CHECK_FALSE(queue.push(job_of(1, 0, 0, 7)));
  CHECK(ids_of(queue.take(10)) == Ids{3, 4, 6});
  CHECK(queue.take(10).empty());
}

TEST_CASE("a worker takes the oldest and others of its layer, up to its share") {
  JobQueue queue(100, 1'000, 2);
  for (std::uint64_t id = 1; id <= 8; ++id) {
    CHECK(queue.push(job_of(id % 2 == 0 ? 4 : 2, 1, 0, id)));
  }
  CHECK(ids_of(queue.take(3)) == Ids{1, 3, 5});
  CHECK(ids_of(queue.take(100)) == Ids{2, 4, 6});
  CHECK(ids_of(queue.take(100)) == Ids{7});
  CHECK(ids_of(queue.take(100)) == Ids{8});
}

TEST_CASE("expired jobs are taken out, the others keep their order") {
  JobQueue queue(100, 1'000, 1);
  queue.push(job_of(1, 500, 10, 1));
  queue.push(job_of(1, 100, 30, 2));
  queue.push(job_of(1, 300, 20, 3));
  queue.push(job_of(1, 100, 40, 4));
  CHECK(ids_of(queue.take_expired(20)) == Ids{1, 3});
  CHECK(queue.push(job_of(1, 800, 50, 5)));
  CHECK(ids_of(queue.take(10)) == Ids{2, 4, 5});
}

}  // namespace splitee::transport
