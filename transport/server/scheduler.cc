#include "transport/server/scheduler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/status.h"

namespace splitee::transport {
namespace {

// A request joins a batch if it has between half and twice the rows of the first one: a short one
// must not wait for one that is much longer.
constexpr std::size_t kLengthRatio = 2;
// So many jobs of an edge are looked at for a batch, so that a long queue costs no more.
constexpr std::size_t kLookahead = 32;
// A new measurement of the pace counts for an eighth, and moves it by a factor of four at most.
constexpr double kNewShare = 0.125;
constexpr double kMaxStep = 4;
// The pace is an average, and who is behind may get a turn first: a fifth of the time is a reserve,
// so that few requests expire in the queue after all. Half of it refused many that would have been
// in time.
constexpr double kMargin = 1.25;
// A batch ends for all of its jobs at once: it takes no more than half of the time that the
// earliest deadline leaves.
constexpr double kBatchMargin = 2;

std::size_t bytes_of_job(const Job& job) {
  return job.infer.payload.size();
}

// Before a job leaves the queue: where memory is out, it stays.
template <class T>
void make_place(std::vector<T>& list) {
  if (list.size() == list.capacity()) list.reserve(2 * list.size() + 1);
}

bool similar(std::size_t a, std::size_t b) {
  return a <= kLengthRatio * b && b <= kLengthRatio * a;
}

}  // namespace

const Scheduler::Flow* Scheduler::find(std::string_view name) const {
  const auto it = by_name_.find(std::string(name));
  return it != by_name_.end() ? &*it->second : nullptr;
}

bool Scheduler::fits(std::size_t job_bytes) const {
  return jobs_ < limits_.max_jobs && job_bytes <= limits_.max_bytes - bytes_;
}

std::int64_t Scheduler::expected_us(std::string_view flow_name, std::uint64_t work,
                                    std::int64_t now_us) const {
  const Flow* own = find(flow_name);
  return expected_us(own, own != nullptr ? own->work : 0, left_of_running(now_us), work);
}

// A batch that takes longer than it should is expected to take as long again as it is over.
double Scheduler::left_of_running(std::int64_t now_us) const {
  double left = 0;
  for (const Running& batch : running_) {
    const double done =
        us_per_work_ == 0 ? 0 : static_cast<double>(now_us - batch.began_us) / us_per_work_;
    left += std::abs(static_cast<double>(batch.work) - done);
  }
  return left;
}

// While this edge's work is done, the others get at most as much each.
std::int64_t Scheduler::expected_us(const Flow* own, std::uint64_t before, double running,
                                    std::uint64_t work) const {
  const std::uint64_t until = before + work;
  double ahead = running + static_cast<double>(until);
  for (const Flow& flow : flows_) {
    if (&flow != own) ahead += static_cast<double>(std::min(flow.work, until + quantum_));
  }
  const double share = static_cast<double>(work);
  const double parallel = share + (ahead - share) / static_cast<double>(limits_.workers);
  return static_cast<std::int64_t>(std::min(1e15, kMargin * us_per_work_ * parallel));
}

Admission Scheduler::push(Job&& job, std::int64_t now_us, std::vector<Job>& expired,
                          std::vector<Job>& displaced) {
  const std::size_t bytes = bytes_of_job(job);
  if (bytes > limits_.max_bytes) return Admission::kFull;
  const Flow* own = find(job.flow);
  if (!idle() && !in_time(own, job, now_us)) return Admission::kWouldBeLate;
  if (bytes > limits_.max_flow_bytes ||
      (own != nullptr && bytes > limits_.max_flow_bytes - own->bytes)) {
    return Admission::kFlowFull;
  }
  if (!fits(bytes)) drop_expired(now_us, expired);
  if (!fits(bytes) && !make_room(job, displaced)) return Admission::kFull;
  insert(std::move(job));
  return Admission::kTaken;
}

// Of one edge the earliest deadline runs first, equal ones in the order of their coming.
std::size_t Scheduler::place_of(const Flow& flow, std::int64_t expires_us) {
  const auto later = [](std::int64_t time_us, const Job& job) { return time_us < job.expires_us; };
  const auto at = std::upper_bound(flow.jobs.begin(), flow.jobs.end(), expires_us, later);
  return static_cast<std::size_t>(at - flow.jobs.begin());
}

// The job, and what of its edge it would run before: none that was taken becomes late by it. Those
// that will be late anyway do not count.
bool Scheduler::in_time(const Flow* own, const Job& job, std::int64_t now_us) const {
  const std::size_t place = own != nullptr ? place_of(*own, job.expires_us) : 0;
  const std::size_t count = own != nullptr ? own->jobs.size() : 0;
  const double running = left_of_running(now_us);
  std::uint64_t before = own != nullptr ? own->work : 0;
  for (std::size_t i = count; i > place; --i) {
    const Job& pushed_back = own->jobs[i - 1];
    before -= pushed_back.work;
    const std::int64_t left_us = pushed_back.expires_us - now_us;
    if (expected_us(own, before, running, pushed_back.work) <= left_us &&
        expected_us(own, before + job.work, running, pushed_back.work) > left_us) {
      return false;
    }
  }
  return expected_us(own, before, running, job.work) <= job.expires_us - now_us;
}

void Scheduler::insert(Job&& job) {
  Flow& flow = flow_of(job);
  const std::size_t place = place_of(flow, job.expires_us);
  // An empty job first: where memory is out, the one to be added is untouched.
  try {
    flow.jobs.emplace_back();
  } catch (...) {
    erase_if_empty(by_name_.find(flow.name)->second);
    throw;
  }
  next_expiry_us_ = jobs_ == 0 ? job.expires_us : std::min(next_expiry_us_, job.expires_us);
  quantum_ = std::max(quantum_, job.work);
  ++jobs_;
  bytes_ += bytes_of_job(job);
  flow.bytes += bytes_of_job(job);
  flow.work += job.work;
  flow.jobs.back() = std::move(job);
  std::rotate(flow.jobs.begin() + static_cast<std::ptrdiff_t>(place), flow.jobs.end() - 1,
              flow.jobs.end());
}

// Begins it where there is none.
Scheduler::Flow& Scheduler::flow_of(const Job& job) {
  const auto it = by_name_.find(job.flow);
  if (it != by_name_.end()) return *it->second;
  flows_.emplace_back();
  try {
    flows_.back().name = job.flow;
    by_name_.emplace(job.flow, std::prev(flows_.end()));
  } catch (...) {
    flows_.pop_back();
    throw;
  }
  return flows_.back();
}

Job Scheduler::remove(Flow& flow, std::size_t index) {
  const auto it = flow.jobs.begin() + static_cast<std::ptrdiff_t>(index);
  Job job = std::move(*it);
  flow.jobs.erase(it);
  --jobs_;
  bytes_ -= bytes_of_job(job);
  flow.bytes -= bytes_of_job(job);
  flow.work -= job.work;
  return job;
}

void Scheduler::erase_if_empty(Flows::iterator flow) {
  if (!flow->jobs.empty()) return;
  by_name_.erase(flow->name);
  flows_.erase(flow);
}

void Scheduler::drop_expired(std::int64_t now_us, std::vector<Job>& expired) {
  if (jobs_ == 0 || now_us < next_expiry_us_) return;
  std::int64_t next_us = std::numeric_limits<std::int64_t>::max();
  for (auto flow = flows_.begin(); flow != flows_.end();) {
    const auto current = flow++;
    for (std::size_t i = 0; i < current->jobs.size();) {
      if (current->jobs[i].expires_us <= now_us) {
        make_place(expired);
        expired.push_back(remove(*current, i));
      } else {
        next_us = std::min(next_us, current->jobs[i].expires_us);
        ++i;
      }
    }
    erase_if_empty(current);
  }
  next_expiry_us_ = next_us;
}

// Only where it helps: the displaced edge keeps at least as much work as the new job's edge gets.
bool Scheduler::make_room(const Job& job, std::vector<Job>& displaced) {
  const Flow* own = find(job.flow);
  const std::uint64_t own_work = (own != nullptr ? own->work : 0) + job.work;
  const std::size_t already = displaced.size();
  while (!fits(bytes_of_job(job))) {
    const auto largest = std::max_element(
        flows_.begin(), flows_.end(), [](const Flow& a, const Flow& b) { return a.work < b.work; });
    if (largest == flows_.end() || &*largest == own ||
        largest->work < own_work + largest->jobs.back().work) {
      // Put back what has left in vain.
      while (displaced.size() > already) {
        insert(std::move(displaced.back()));
        displaced.pop_back();
      }
      return false;
    }
    make_place(displaced);
    displaced.push_back(remove(*largest, largest->jobs.size() - 1));
    erase_if_empty(largest);
  }
  return true;
}

// An edge without enough left gets a quantum and goes behind the others.
Scheduler::Flows::iterator Scheduler::next_turn() {
  for (;;) {
    const auto flow = flows_.begin();
    if (flow->deficit >= static_cast<std::int64_t>(flow->jobs.front().work)) return flow;
    flow->deficit += static_cast<std::int64_t>(quantum_);
    flows_.splice(flows_.end(), flows_, flow);
  }
}

struct Scheduler::Batch {
  const Job* first;
  std::size_t rows;
  std::uint64_t work;
  std::int64_t now_us, earliest_us;

  void add(const Job& job) {
    rows += job.length;
    work += job.work;
    earliest_us = std::min(earliest_us, job.expires_us);
  }
};

bool Scheduler::joins(const Job& job, const Batch& batch) const {
  if (job.model.get() != batch.first->model.get() || job.infer.layer != batch.first->infer.layer ||
      !similar(job.length, batch.first->length) ||
      batch.rows + job.length > limits_.max_batch_rows) {
    return false;
  }
  const double needed_us = kBatchMargin * us_per_work_ * static_cast<double>(batch.work + job.work);
  const std::int64_t left_us = std::min(batch.earliest_us, job.expires_us) - batch.now_us;
  return needed_us <= static_cast<double>(left_us);
}

void Scheduler::join(std::vector<Job>& jobs, std::size_t most, std::int64_t now_us) {
  Batch batch = {&jobs.front(), 0, 0, now_us, jobs.front().expires_us};
  batch.add(jobs.front());
  for (bool found = true; found && jobs.size() < most;) {
    found = false;
    for (auto flow = flows_.begin(); flow != flows_.end() && jobs.size() < most;) {
      const auto current = flow++;
      const std::size_t count = std::min(kLookahead, current->jobs.size());
      std::size_t i = 0;
      while (i < count && !joins(current->jobs[i], batch)) ++i;
      if (i == count) continue;
      jobs.push_back(remove(*current, i));
      batch.add(jobs.back());
      current->deficit -= static_cast<std::int64_t>(jobs.back().work);
      erase_if_empty(current);
      found = true;
    }
  }
  running_.push_back({batch.work, now_us});
}

std::vector<Job> Scheduler::take(std::int64_t now_us) {
  std::vector<Job> jobs;
  if (jobs_ == 0) return jobs;
  const std::size_t share = (jobs_ + limits_.workers - 1) / limits_.workers;
  const std::size_t most = std::min(limits_.max_batch, share);
  jobs.reserve(most);
  make_place(running_);
  const auto flow = next_turn();
  jobs.push_back(remove(*flow, 0));
  flow->deficit -= static_cast<std::int64_t>(jobs.back().work);
  erase_if_empty(flow);
  join(jobs, most, now_us);
  return jobs;
}

void Scheduler::finished(std::uint64_t work, std::uint64_t run_work, std::int64_t elapsed_us) {
  const auto batch = std::find_if(running_.begin(), running_.end(),
                                  [work](const Running& running) { return running.work == work; });
  SPLITEE_CHECK(batch != running_.end());
  running_.erase(batch);
  if (elapsed_us < 0 || run_work == 0) return;
  // Less than the clock tells is half of its step.
  const double measured_us = elapsed_us > 0 ? static_cast<double>(elapsed_us) : 0.5;
  const double measured = measured_us / static_cast<double>(run_work);
  if (us_per_work_ == 0) {
    us_per_work_ = measured;
    return;
  }
  const double bounded = std::clamp(measured, us_per_work_ / kMaxStep, us_per_work_ * kMaxStep);
  us_per_work_ += kNewShare * (bounded - us_per_work_);
}

}  // namespace splitee::transport
