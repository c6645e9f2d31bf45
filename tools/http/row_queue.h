// Requests on their way: what is asked, and a queue of their rows between the threads of a listener
// and those that compute. Rows are taken in turns from all requests that wait, so that a long one
// holds up no short one.
// Thread rule: safe from any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/network.h"
#include "tools/http/protocol.h"

namespace splitee::tools {

// A network as it is served: what requests were read for is what runs them.
struct ServedNetwork {
  std::shared_ptr<const runtime::Network> network;
  InferProtocol protocol;
};

// A request whose rows are computed one by one, in any order.
class InferJob {
 public:
  // `done` gets the answer, once, in the thread of the last row.
  using Done = std::function<void(HttpResponse)>;
  InferJob(std::shared_ptr<const ServedNetwork> served, InferRequest request, Done done);

  const ServedNetwork& served() const { return *served_; }
  const InferRequest& request() const { return request_; }
  std::chrono::steady_clock::time_point created() const { return created_; }

  // Once per row, by one of the two. The first failure is the answer.
  void finish(std::size_t row, RowAnswer answer);
  void fail(unsigned http_status, const std::string& message, std::size_t rows = 1);
  // Whether the rest need not be computed.
  bool failed() const;

 private:
  void rows_done(std::unique_lock<std::mutex> lock, std::size_t rows);

  const std::shared_ptr<const ServedNetwork> served_;
  const InferRequest request_;
  const Done done_;
  const std::chrono::steady_clock::time_point created_ = std::chrono::steady_clock::now();
  mutable std::mutex mutex_;
  std::vector<RowAnswer> answers_;
  std::size_t left_;
  std::optional<HttpResponse> error_;
};

// What a failure of a row means to its client.
unsigned http_status_of(const Status& status);

struct JobRow {
  std::shared_ptr<InferJob> job;
  std::size_t row = 0;
  const runtime::Input& input() const { return job->request().rows[row]; }
};

class RowQueue {
 public:
  static constexpr std::size_t kMaxRowsWaiting = 4096;
  static constexpr std::chrono::seconds kMaxWait{30};  // until the first row is taken

  // False where too much waits already, or the queue is closed; the job is left alone then.
  bool push(std::shared_ptr<InferJob> job);
  // At most `most` rows, one request after the other; waits for the first one. Empty once closed.
  std::vector<JobRow> take(std::size_t most);
  // The same without waiting.
  std::vector<JobRow> try_take(std::size_t most);
  // Nothing is taken any more; what waits fails with 503.
  void close();
  std::size_t rows_waiting() const;

 private:
  struct Waiting {
    std::shared_ptr<InferJob> job;
    std::size_t next = 0;
  };
  std::vector<JobRow> take_waiting(std::size_t most, std::vector<Waiting>& dropped);
  static void drop(std::span<const Waiting> dropped, const char* why);

  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<Waiting> waiting_;
  std::size_t rows_ = 0;
  bool closed_ = false;
};

}  // namespace splitee::tools
