#include "transport/server/scheduler.h"

#include <algorithm>
#include <map>
#include <string>
#include <thread>

#include <doctest/doctest.h>

#include "transport/server/job_queue.h"

namespace splitee::transport {
namespace {

using Ids = std::vector<std::uint64_t>;
constexpr std::int64_t kNever = std::int64_t{1} << 60;

std::shared_ptr<ServedModel> some_model() {
  static const auto model = std::make_shared<ServedModel>(ModelShape{}, BackendFactory(), 0);
  return model;
}

struct Request {
  std::uint64_t id = 0;
  std::string flow = "a";
  std::uint32_t layer = 1;
  std::uint32_t rows = 1;
  std::size_t bytes = 1;
  std::int64_t expires_us = kNever;
  std::uint64_t work = 0;  // 0: rows
};

Job job_of(const Request& request) {
  static const std::vector<std::byte> room(1'000);
  Job job;
  job.address.request_id = request.id;
  job.flow = request.flow;
  job.infer.layer = request.layer;
  job.infer.rows = request.rows;
  job.length = request.rows;
  job.infer.payload = std::span(room).first(request.bytes);
  job.model = some_model();
  job.work = request.work != 0 ? request.work : request.rows;
  job.expires_us = request.expires_us;
  return job;
}

Ids ids_of(const std::vector<Job>& jobs) {
  Ids ids;
  for (const Job& job : jobs) ids.push_back(job.address.request_id);
  return ids;
}

// A scheduler under test, with what left its queue.
struct Bench {
  explicit Bench(const SchedulerLimits& limits) : scheduler(limits) {}

  Admission push(const Request& request, std::int64_t now_us = 0) {
    return scheduler.push(job_of(request), now_us, expired, displaced);
  }
  // Runs the next batch at a pace of `us_per_work`.
  Ids run(std::int64_t us_per_work = 0, std::int64_t now_us = 0) {
    const std::vector<Job> jobs = scheduler.take(now_us);
    std::uint64_t work = 0;
    for (const Job& job : jobs) work += job.work;
    scheduler.finished(work, us_per_work == 0 ? 0 : work,
                       static_cast<std::int64_t>(work) * us_per_work);
    return ids_of(jobs);
  }

  Scheduler scheduler;
  std::vector<Job> expired, displaced;
};

SchedulerLimits limits_of(std::size_t max_batch, std::size_t workers = 1) {
  SchedulerLimits limits;
  limits.max_batch = max_batch;
  limits.workers = workers;
  return limits;
}

}  // namespace

TEST_CASE("the queue is bounded in number and in bytes, in all and for an edge") {
  SchedulerLimits limits = limits_of(1);
  limits.max_jobs = 4;
  limits.max_bytes = 1'000;
  limits.max_flow_bytes = 600;
  Bench bench(limits);
  CHECK(bench.push({.id = 1, .bytes = 500}) == Admission::kTaken);
  CHECK(bench.push({.id = 2, .bytes = 101}) == Admission::kFlowFull);
  CHECK(bench.push({.id = 3, .bytes = 100}) == Admission::kTaken);
  CHECK(bench.push({.id = 4, .flow = "b", .rows = 5, .bytes = 401}) == Admission::kFull);
  CHECK(bench.push({.id = 5, .flow = "b", .rows = 5, .bytes = 400}) == Admission::kTaken);
  CHECK(bench.scheduler.bytes() == 1'000);
  CHECK(bench.push({.id = 6, .flow = "c", .rows = 5, .bytes = 0}) == Admission::kTaken);
  CHECK(bench.push({.id = 7, .flow = "d", .rows = 5, .bytes = 0}) == Admission::kFull);
  CHECK(bench.scheduler.size() == 4);
  while (bench.scheduler.size() != 0) bench.run();
  CHECK(bench.scheduler.bytes() == 0);
  CHECK(bench.push({.id = 8, .bytes = 600}) == Admission::kTaken);
  CHECK(bench.displaced.empty());
}

TEST_CASE("an edge with one request waits for one of each other edge, however many those have") {
  Bench bench(limits_of(1));
  for (std::uint64_t id = 0; id < 40; ++id) bench.push({.id = id, .flow = "flood"});
  for (std::uint64_t id = 40; id < 50; ++id) bench.push({.id = id, .flow = "second"});
  bench.run();
  bench.push({.id = 100, .flow = "modest"});
  Ids order;
  for (int i = 0; i < 4; ++i) order.push_back(bench.run().at(0));
  CHECK(std::count(order.begin(), order.end(), 100) == 1);
}

TEST_CASE("edges share by work, not by requests") {
  Bench bench(limits_of(1));
  const auto push = [&](std::uint64_t id) {  // even ids: ten rows
    const bool even = id % 2 == 0;
    bench.push({.id = id, .flow = even ? "long" : "short", .rows = even ? 10u : 1u});
  };
  for (std::uint64_t id = 0; id < 40; ++id) push(id);
  std::map<std::string, std::uint64_t> done;
  for (int i = 0; i < 500; ++i) {
    const std::uint64_t ran = bench.run().at(0);
    done[ran % 2 == 0 ? "long" : "short"] += ran % 2 == 0 ? 10 : 1;
    push(ran);  // so that both always have something waiting
  }
  CAPTURE(done["long"]);
  CAPTURE(done["short"]);
  CHECK(done["long"] <= done["short"] + 20);
  CHECK(done["short"] <= done["long"] + 20);
}

TEST_CASE("a full queue takes from who has most in it, newest first") {
  SchedulerLimits limits = limits_of(1);
  limits.max_jobs = 4;
  Bench bench(limits);
  for (std::uint64_t id = 1; id <= 4; ++id) bench.push({.id = id, .flow = "flood"});
  CHECK(bench.push({.id = 5, .flow = "flood"}) == Admission::kFull);
  CHECK(bench.push({.id = 6, .flow = "b"}) == Admission::kTaken);
  CHECK(bench.push({.id = 7, .flow = "c"}) == Admission::kTaken);
  CHECK(ids_of(bench.displaced) == Ids{4, 3});
  // Two of four are left to the first: the others have one each, and get no second one.
  CHECK(bench.push({.id = 8, .flow = "b"}) == Admission::kFull);
  CHECK(bench.push({.id = 9, .flow = "flood"}) == Admission::kFull);
  CHECK(bench.scheduler.size() == 4);
}

TEST_CASE("what could not make room stays in the queue, in its order") {
  SchedulerLimits limits = limits_of(1);
  limits.max_bytes = 100;
  Bench bench(limits);
  for (std::uint64_t id = 1; id <= 5; ++id) {
    REQUIRE(bench.push({.id = id, .flow = "flood", .bytes = 20}) == Admission::kTaken);
  }
  // Four of five would have to go: the last two of them for an edge that then has more.
  CHECK(bench.push({.id = 6, .flow = "b", .rows = 3, .bytes = 80}) == Admission::kFull);
  CHECK(bench.displaced.empty());
  CHECK(bench.scheduler.bytes() == 100);
  Ids order;
  while (bench.scheduler.size() != 0) order.push_back(bench.run().at(0));
  CHECK(order == Ids{1, 2, 3, 4, 5});
}

TEST_CASE("expired requests leave a full queue first") {
  SchedulerLimits limits = limits_of(4);
  limits.max_jobs = 3;
  Bench bench(limits);
  bench.push({.id = 1, .expires_us = 10});
  bench.push({.id = 2, .expires_us = 30});
  bench.push({.id = 3, .expires_us = 20});
  CHECK(bench.push({.id = 4}, 5) == Admission::kFull);
  CHECK(bench.push({.id = 5}, 20) == Admission::kTaken);
  CHECK(ids_of(bench.expired) == Ids{1, 3});
  CHECK(bench.run() == Ids{2, 5});
}

TEST_CASE("a batch is of one layer, one model and similar lengths") {
  Bench bench(limits_of(8));
  bench.push({.id = 1, .layer = 2, .rows = 10});
  bench.push({.id = 2, .layer = 3, .rows = 10});
  bench.push({.id = 3, .flow = "b", .layer = 2, .rows = 20});
  bench.push({.id = 4, .flow = "b", .layer = 2, .rows = 21});
  bench.push({.id = 5, .flow = "c", .layer = 2, .rows = 5});
  bench.push({.id = 6, .flow = "c", .layer = 2, .rows = 4});
  Job other = job_of({.id = 7, .layer = 2, .rows = 10});
  other.model = std::make_shared<ServedModel>(ModelShape{}, BackendFactory(), 0);
  bench.scheduler.push(std::move(other), 0, bench.expired, bench.displaced);
  CHECK(bench.run() == Ids{1, 3, 5});
  std::size_t rest = 0;
  while (bench.scheduler.size() != 0) rest += bench.run().size();
  CHECK(rest == 4);
}

TEST_CASE("a batch has at most so many requests and so many rows") {
  SchedulerLimits limits = limits_of(3);
  limits.max_batch_rows = 50;
  Bench bench(limits);
  for (std::uint64_t id = 1; id <= 8; ++id) bench.push({.id = id, .rows = id <= 4 ? 10u : 20u});
  CHECK(bench.run() == Ids{1, 2, 3});
  CHECK(bench.run() == Ids{4, 5, 6});
  CHECK(bench.run() == Ids{7, 8});
  // Alone, one may be longer.
  bench.push({.id = 9, .rows = 90});
  CHECK(bench.run() == Ids{9});
}

TEST_CASE("a worker leaves the others their share") {
  Bench bench(limits_of(8, 2));
  for (std::uint64_t id = 1; id <= 5; ++id) bench.push({.id = id});
  CHECK(bench.scheduler.take(0).size() == 3);
  CHECK(bench.scheduler.take(0).size() == 1);
  CHECK(bench.scheduler.take(0).size() == 1);
  CHECK(bench.scheduler.take(0).empty());
}

TEST_CASE("edges join a batch in turn, and pay for it") {
  Bench bench(limits_of(4));
  for (std::uint64_t id = 1; id <= 8; ++id) bench.push({.id = id, .flow = "flood"});
  bench.push({.id = 20, .flow = "b"});
  bench.push({.id = 30, .flow = "c"});
  const Ids first = bench.run();
  CHECK(std::count(first.begin(), first.end(), 20) == 1);
  CHECK(std::count(first.begin(), first.end(), 30) == 1);
  CHECK(first.size() == 4);
}

TEST_CASE("a request that would be late is refused at once") {
  Bench bench(limits_of(1));
  bench.push({.id = 1, .rows = 10});
  bench.run(100);  // 100 us a row
  // Idle: taken whatever the pace says.
  CHECK(bench.push({.id = 2, .rows = 10, .expires_us = 100}) == Admission::kTaken);
  CHECK(bench.push({.id = 3, .rows = 10, .expires_us = 2'499}) == Admission::kWouldBeLate);
  CHECK(bench.push({.id = 4, .rows = 10, .expires_us = 2'500}) == Admission::kTaken);
  CHECK(bench.push({.id = 5, .rows = 10, .expires_us = 3'700}) == Admission::kWouldBeLate);
  // What runs counts too.
  const std::vector<Job> running = bench.scheduler.take(0);
  CHECK(bench.push({.id = 6, .rows = 10, .expires_us = 3'700}) == Admission::kWouldBeLate);
  bench.scheduler.finished(10, 10, 1'000);
  CHECK(bench.push({.id = 7, .rows = 10, .expires_us = 3'700}) == Admission::kTaken);
  CHECK(running.size() == 1);
}

TEST_CASE(
    "of what runs, only the rest counts; what takes too long is expected to take longer still") {
  Bench bench(limits_of(1));
  bench.push({.id = 1, .rows = 10});
  bench.run(100);  // 1,000 us each, which count as 1,250
  bench.push({.id = 2, .rows = 10});
  REQUIRE(bench.scheduler.take(5'000).size() == 1);
  CHECK(bench.scheduler.expected_us("a", 10, 5'000) == 2'500);
  CHECK(bench.scheduler.expected_us("a", 10, 5'600) == 1'750);
  CHECK(bench.scheduler.expected_us("a", 10, 6'000) == 1'250);
  CHECK(bench.scheduler.expected_us("a", 10, 8'000) == 3'750);
  CHECK(bench.push({.id = 3, .rows = 10, .expires_us = 7'349}, 5'600) == Admission::kWouldBeLate);
  CHECK(bench.push({.id = 4, .rows = 10, .expires_us = 7'350}, 5'600) == Admission::kTaken);
}

TEST_CASE("a batch takes no more than half of the time that its earliest deadline leaves") {
  Bench bench(limits_of(8));
  bench.push({.id = 1, .rows = 10});
  bench.run(100);  // 1,000 us each
  const auto push = [&](std::uint64_t id, std::int64_t expires_us) {
    REQUIRE(bench.push({.id = id, .rows = 10, .expires_us = expires_us}) == Admission::kTaken);
  };
  push(2, 6'000);
  for (std::uint64_t id = 3; id <= 6; ++id) push(id, 50'000);
  CHECK(bench.run(100) == Ids{2, 3, 4});
  CHECK(bench.run(100) == Ids{5, 6});
  // One that will be late anyway runs alone, and joins nobody.
  push(7, 10'000);
  push(8, 50'000);
  push(9, 60'000);
  CHECK(bench.run(100, 9'500) == Ids{7});
  CHECK(bench.run(100, 10'500) == Ids{8, 9});
}

TEST_CASE("of one edge the earliest deadline runs first, equal ones in the order of their coming") {
  Bench bench(limits_of(1));
  bench.push({.id = 1, .expires_us = 300});
  bench.push({.id = 2, .expires_us = 100});
  bench.push({.id = 3, .expires_us = 200});
  bench.push({.id = 4, .expires_us = 100});
  bench.push({.id = 5, .flow = "b", .expires_us = 50});
  Ids order;
  while (bench.scheduler.size() != 0) order.push_back(bench.run().at(0));
  // The other edge has its turn, not more.
  CHECK(order == Ids{2, 5, 4, 3, 1});
}

TEST_CASE("an urgent request passes those that can wait, and makes none of them late") {
  Bench bench(limits_of(1));
  bench.push({.id = 1, .rows = 10});
  bench.run(100);  // 1,000 us each, which count as 1,250
  const auto push = [&](std::uint64_t id, std::int64_t expires_us) {
    return bench.push({.id = id, .rows = 10, .expires_us = expires_us});
  };
  for (std::uint64_t id = 2; id <= 5; ++id) REQUIRE(push(id, 5'500) == Admission::kTaken);
  // The last of the four is expected at 5,000: a fifth before them would make it late.
  CHECK(push(6, 5'499) == Admission::kWouldBeLate);
  CHECK(push(7, 10'000) == Admission::kTaken);
  REQUIRE(bench.run().at(0) == 2);
  CHECK(push(8, 2'000) == Admission::kTaken);
  CHECK(push(9, 1'999) == Admission::kWouldBeLate);
  Ids order;
  while (bench.scheduler.size() != 0) order.push_back(bench.run().at(0));
  CHECK(order == Ids{8, 3, 4, 5, 7});
}

TEST_CASE("one that will be late anyway holds up nobody") {
  Bench bench(limits_of(1));
  bench.push({.id = 1, .rows = 10});
  bench.run(100);
  REQUIRE(bench.push({.id = 2, .rows = 10, .expires_us = 2'500}) == Admission::kTaken);
  REQUIRE(bench.push({.id = 3, .rows = 10, .expires_us = 4'000}) == Admission::kTaken);
  // At 2,100 neither is expected in time any more.
  CHECK(bench.push({.id = 4, .rows = 1, .expires_us = 2'400}, 2'100) == Admission::kTaken);
  CHECK(bench.run() == Ids{4});
}

TEST_CASE("the queue of another edge counts for no more than one's own share of it") {
  Bench bench(limits_of(1));
  bench.push({.id = 1, .rows = 10});
  bench.run(100);
  for (std::uint64_t id = 2; id < 30; ++id) bench.push({.id = id, .flow = "flood", .rows = 10});
  const std::int64_t own = bench.scheduler.expected_us("modest", 10, 0);
  CHECK(bench.scheduler.expected_us("flood", 10, 0) > 25 * 1'000);
  CHECK(own <= 6'000);
  CHECK(bench.push({.id = 100, .flow = "modest", .rows = 10, .expires_us = 6'000}) ==
        Admission::kTaken);
}

TEST_CASE("a pace measured in a bad moment does not shut the server") {
  Bench bench(limits_of(1));
  bench.push({.id = 1, .rows = 10});
  bench.run(100);
  bench.push({.id = 2, .rows = 10});
  bench.run(100'000'000);  // stopped for a quarter of an hour
  std::uint64_t taken = 0;
  for (std::uint64_t id = 3; id < 100; ++id) {
    taken += bench.push({.id = id, .rows = 10, .expires_us = 3'000}) == Admission::kTaken;
    bench.run(100);
  }
  CHECK(taken == 97);
  bench.push({.id = 200, .rows = 10});
  CHECK(bench.push({.id = 201, .rows = 10, .expires_us = 5'000}) == Admission::kTaken);
}

TEST_CASE("what expired in the queue says nothing about the pace") {
  Bench bench(limits_of(2));
  bench.push({.id = 1, .rows = 10});
  bench.run(100);
  bench.push({.id = 2, .rows = 10});
  (void)bench.scheduler.take(0);
  bench.scheduler.finished(10, 0, 1);
  bench.push({.id = 3, .rows = 10});
  CHECK(bench.scheduler.expected_us("b", 10, 0) == 2'500);
}

TEST_CASE("a closed queue takes nothing, and ends once it is empty") {
  JobQueue queue(limits_of(8));
  std::vector<Job> gone;
  CHECK(queue.push(job_of({.id = 1}), 0, gone, gone) == Admission::kTaken);
  CHECK(queue.size() == 1);
  CHECK(queue.bytes() == 1);
  queue.close();
  CHECK(queue.push(job_of({.id = 2}), 0, gone, gone) == Admission::kFull);
  CHECK(queue.wait());
  CHECK(ids_of(queue.take(0)) == Ids{1});
  CHECK_FALSE(queue.wait());
  CHECK(queue.take(0).empty());
}

TEST_CASE("a quick request that comes alone is left to its receiver, two are not") {
  JobQueue queue(limits_of(1), 500);
  std::vector<Job> gone;
  const auto push = [&](std::uint64_t id, std::uint32_t rows) {
    queue.push(job_of({.id = id, .rows = rows}), 0, gone, gone);
  };
  push(1, 10);
  CHECK(queue.take_quick(0).empty());  // the pace is not known yet
  CHECK(ids_of(queue.take(0)) == Ids{1});
  push(2, 10);
  CHECK(queue.take_quick(0).empty());  // not idle
  CHECK(ids_of(queue.take(0)) == Ids{2});
  queue.finished(10, 10, 500);
  queue.finished(10, 10, 500);
  push(3, 10);
  CHECK(ids_of(queue.take_quick(0)) == Ids{3});
  CHECK(queue.take_quick(0).empty());
  queue.finished(10, 10, 500);
  push(4, 11);  // too long
  CHECK(queue.take_quick(0).empty());
  CHECK(ids_of(queue.take(0)) == Ids{4});
  queue.finished(11, 11, 550);
  push(5, 1);
  push(6, 1);
  CHECK(queue.take_quick(0).empty());
  CHECK(ids_of(queue.take(0)) == Ids{5});
  CHECK(ids_of(queue.take(0)) == Ids{6});
}

TEST_CASE("a push wakes a waiting worker") {
  JobQueue queue(limits_of(8));
  Ids taken;
  std::thread worker([&] {
    if (queue.wait()) taken = ids_of(queue.take(0));
  });
  std::vector<Job> gone;
  queue.push(job_of({.id = 5}), 0, gone, gone);
  worker.join();
  CHECK(taken == Ids{5});
}

}  // namespace splitee::transport
