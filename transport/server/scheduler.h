// Which requests wait, which are refused, and which run next: fair between edges, the earliest
// deadline of an edge first, bounded, and without work for answers that would come too late.
//
// Fairness: every edge (a flow) has a queue of its own; turns go round by deficit (Shreedhar and
// Varghese 1995, "Efficient fair queuing using deficit round robin"). The cost of a request is
// the operations of the layers to run. An idle edge saves up nothing.
// Deadlines: of one edge the earliest is first (Liu and Layland 1973); between edges fairness
// decides.
// Bounds: requests, bytes, bytes per edge. A request that finds the queue full displaces the
// latest of the edge with the most work waiting (McKenney 1990, "Stochastic fairness queueing"),
// unless that is its own.
// Admission: a request is refused at once where the work before it, at the pace measured, leaves
// too little of its deadline, or where it would make a waiting one of its edge late. When nothing
// waits or runs it is always taken, so that a pace measured in a bad moment heals.
// Batches: the edge whose turn it is chooses model and layer; others of that layer and a similar
// length join, an edge after the other, each charged for itself, as long as the batch takes no more
// than half of what the earliest deadline in it leaves. Nothing ever waits for a batch.
//
// No clock, no locks. Thread rule: one thread at a time. Times are microseconds of one monotonic
// clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "transport/server/backend.h"
#include "transport/wire/wire.h"

namespace splitee::transport {

// Whom an answer goes to.
struct Address {
  std::string peer;           // routing id
  std::uint64_t session = 0;  // serial number of the peer's session
  std::uint64_t request_id = 0;
};

// An accepted request.
struct Job {
  Address address;
  std::string flow;  // whose share it is: the edge's key, or else its routing id
  Infer infer;       // its payload is a view into `owner`
  std::shared_ptr<const void> owner;
  std::shared_ptr<ServedModel> model;  // what it runs on, whatever is served by then
  std::size_t length = 1;              // of the input, in the network's units
  std::uint64_t work = 0;              // of the layers to run
  std::int64_t received_us = 0;
  std::int64_t expires_us = 0;
};

struct SchedulerLimits {
  std::size_t max_jobs = 256;
  std::size_t max_bytes = std::size_t{64} << 20;
  std::size_t max_flow_bytes = std::size_t{16} << 20;
  std::size_t workers = 1;
  std::size_t max_batch = 8;
  std::size_t max_batch_rows = 256;  // a single request may be longer
};

enum class Admission { kTaken, kFull, kFlowFull, kWouldBeLate };

class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits) : limits_(limits) {}

  // kTaken, or the job is untouched. What left the queue for it is added to `expired` and
  // `displaced`.
  Admission push(Job&& job, std::int64_t now_us, std::vector<Job>& expired,
                 std::vector<Job>& displaced);
  // The next batch, which runs from now on; empty where nothing waits. Jobs that have expired may
  // be among them. A worker takes no more than its share of what waits.
  std::vector<Job> take(std::int64_t now_us);
  // A batch that take() gave, of so much work in all, is over; `run_work` of it was run, in
  // elapsed_us.
  void finished(std::uint64_t work, std::uint64_t run_work, std::int64_t elapsed_us);

  std::size_t size() const { return jobs_; }
  std::size_t bytes() const { return bytes_; }
  // Expected time until a job of `work` of this flow would be done, if it came now.
  std::int64_t expected_us(std::string_view flow, std::uint64_t work, std::int64_t now_us) const;
  // Whether a job of `work` alone should be done in limit_us. Unknown paces are not quick.
  bool quick(std::uint64_t work, std::int64_t limit_us) const {
    return us_per_work_ > 0 &&
           us_per_work_ * static_cast<double>(work) <= static_cast<double>(limit_us);
  }
  // Whether nothing waits and nothing runs.
  bool idle() const { return jobs_ == 0 && running_.empty(); }

 private:
  struct Flow {
    std::string name;
    std::deque<Job> jobs;  // the earliest deadline first
    std::size_t bytes = 0;
    std::uint64_t work = 0;
    std::int64_t deficit = 0;
  };
  struct Running {
    std::uint64_t work;
    std::int64_t began_us;
  };
  struct Batch;                   // one that is being made up
  using Flows = std::list<Flow>;  // those with jobs, in the order of their turns

  const Flow* find(std::string_view name) const;
  bool fits(std::size_t job_bytes) const;
  void drop_expired(std::int64_t now_us, std::vector<Job>& expired);
  bool make_room(const Job& job, std::vector<Job>& displaced);
  static std::size_t place_of(const Flow& flow, std::int64_t expires_us);
  bool in_time(const Flow* own, const Job& job, std::int64_t now_us) const;
  // Of a job of an edge with `before` of its own work ahead, and `running` still to be run.
  std::int64_t expected_us(const Flow* own, std::uint64_t before, double running,
                           std::uint64_t work) const;
  double left_of_running(std::int64_t now_us) const;
  bool joins(const Job& job, const Batch& batch) const;
  void insert(Job&& job);
  Flow& flow_of(const Job& job);
  Job remove(Flow& flow, std::size_t index);
  void erase_if_empty(Flows::iterator flow);
  Flows::iterator next_turn();
  void join(std::vector<Job>& jobs, std::size_t most, std::int64_t now_us);

  const SchedulerLimits limits_;
  Flows flows_;
  std::unordered_map<std::string, Flows::iterator> by_name_;
  std::size_t jobs_ = 0, bytes_ = 0;
  std::vector<Running> running_;     // batches that were taken
  std::uint64_t quantum_ = 1;        // the costliest job so far: every turn serves at least one
  std::int64_t next_expiry_us_ = 0;  // no job expires before; meaningful where there are jobs
  double us_per_work_ = 0;           // of one worker; 0 before the first measurement
};

}  // namespace splitee::transport
