#include "tools/http/row_queue.h"

#include <cmath>
#include <utility>

namespace splitee::tools {

InferJob::InferJob(std::shared_ptr<const ServedNetwork> served, InferRequest request, Done done)
    : served_(std::move(served)),
      request_(std::move(request)),
      done_(std::move(done)),
      answers_(request_.rows.size()),
      left_(request_.rows.size()) {}

void InferJob::finish(std::size_t row, RowAnswer answer) {
  std::unique_lock lock(mutex_);
  if (!std::isfinite(answer.confidence) && !error_) {
    error_ = json_error(500, "the model's answer is not a number");
  }
  answers_[row] = std::move(answer);
  rows_done(std::move(lock), 1);
}

void InferJob::fail(unsigned http_status, const std::string& message, std::size_t rows) {
  std::unique_lock lock(mutex_);
  if (!error_) error_ = json_error(http_status, message);
  rows_done(std::move(lock), rows);
}

bool InferJob::failed() const {
  const std::lock_guard lock(mutex_);
  return error_.has_value();
}

void InferJob::rows_done(std::unique_lock<std::mutex> lock, std::size_t rows) {
  SPLITEE_CHECK(rows <= left_);
  left_ -= rows;
  if (left_ > 0 || rows == 0) return;
  lock.unlock();
  done_(error_ ? *error_ : served_->protocol.encode(request_, answers_));
}

unsigned http_status_of(const Status& status) {
  return status.code() == Code::kIo || status.code() == Code::kNotFound ? 500 : 400;
}

bool RowQueue::push(std::shared_ptr<InferJob> job) {
  const std::size_t rows = job->request().rows.size();
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || rows_ + rows > kMaxRowsWaiting) return false;
    rows_ += rows;
    waiting_.push_back({std::move(job)});
  }
  ready_.notify_all();
  return true;
}

std::vector<JobRow> RowQueue::take(std::size_t most) {
  for (;;) {
    std::vector<Waiting> dropped;
    std::vector<JobRow> rows;
    {
      std::unique_lock lock(mutex_);
      ready_.wait(lock, [this] { return closed_ || !waiting_.empty(); });
      if (closed_) return {};
      rows = take_waiting(most, dropped);
    }
    drop(dropped, "waited too long");
    if (!rows.empty()) return rows;
  }
}

std::vector<JobRow> RowQueue::try_take(std::size_t most) {
  std::vector<Waiting> dropped;
  std::vector<JobRow> rows;
  {
    const std::lock_guard lock(mutex_);
    if (!closed_) rows = take_waiting(most, dropped);
  }
  drop(dropped, "waited too long");
  return rows;
}

// With the mutex held. Jobs that have failed, or were not begun in time, are dropped.
std::vector<JobRow> RowQueue::take_waiting(std::size_t most, std::vector<Waiting>& dropped) {
  std::vector<JobRow> rows;
  const auto now = std::chrono::steady_clock::now();
  while (rows.size() < most && !waiting_.empty()) {
    Waiting front = std::move(waiting_.front());
    waiting_.pop_front();
    const std::size_t count = front.job->request().rows.size();
    const bool late = front.next == 0 && now - front.job->created() > kMaxWait;
    if (front.job->failed() || late) {
      rows_ -= count - front.next;
      dropped.push_back(std::move(front));
      continue;
    }
    --rows_;
    rows.push_back({front.job, front.next++});
    if (front.next < count) waiting_.push_back(std::move(front));
  }
  return rows;
}

void RowQueue::drop(std::span<const Waiting> dropped, const char* why) {
  for (const Waiting& waiting : dropped) {
    waiting.job->fail(503, why, waiting.job->request().rows.size() - waiting.next);
  }
}

void RowQueue::close() {
  std::deque<Waiting> left;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    left.swap(waiting_);
    rows_ = 0;
  }
  ready_.notify_all();
  for (const Waiting& waiting : left) drop({&waiting, 1}, "shutting down");
}

std::size_t RowQueue::rows_waiting() const {
  const std::lock_guard lock(mutex_);
  return rows_;
}

}  // namespace splitee::tools
