// What a Server decides about messages, without sockets, clocks or threads: sessions, checks
// against the model, deadlines, admission, refusals. The same code runs over ZeroMQ and under a
// simulated network.
// Thread rule: one thread at a time (the queue and the counters are shared with others).
// Errors: none; what a peer does wrong is refused and counted. Refusals say what was wrong with
// the message, and never an address, a path or memory. Where memory is out, receive() and
// complete() may throw std::bad_alloc; every accepted request is still completed once. Times are
// microseconds of one monotonic clock.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "transport/counters.h"
#include "transport/server/backend.h"
#include "transport/server/job_queue.h"
#include "transport/server/server_options.h"
#include "transport/server/sessions.h"
#include "transport/wire/wire.h"

namespace splitee::transport {

// One message from a peer.
struct Incoming {
  std::string_view peer;  // routing id: where to answer, not who it is
  std::string_view user;  // authenticated key, empty without CURVE
  std::span<const std::span<const std::byte>> frames;
  std::shared_ptr<const void> owner;  // keeps the frames alive
};

// What became of an accepted request.
struct Answer {
  Address address;
  std::uint64_t model_hash = 0;  // of the model it was accepted for
  std::int64_t received_us = 0;
  std::int64_t started_us = -1;  // of its batch; -1 where it was not run
  std::int64_t service_us = 0;
  std::variant<Reply, Refusal> body;
  std::optional<Shed> shed;  // why it was not run
};

// What the queue of such a server takes.
SchedulerLimits limits_of(const ServerOptions& options);

struct Executed {
  std::vector<Answer> answers;  // one for every job, in their order
  std::uint64_t run_work = 0;   // of those that were run
  std::string fault;            // of the server's own, in words for its operator; empty without
};

// Runs a batch on a worker's backend, but not what has expired. `scratch` is reused between calls.
// Throws std::bad_alloc, before anything is run, where memory is out for the answers themselves.
struct Scratch {
  struct Values {
    std::vector<float> activation;
  };
  std::vector<Values> values;
};
Executed execute(std::span<const Job> jobs, Backend& backend, Scratch& scratch,
                 std::int64_t now_us);

// Answers for requests that are not run.
std::vector<Answer> refuse_all(std::span<const Job> jobs, Shed reason);

class ServerCore {
 public:
  // `queue` and `counters` must outlive the core.
  ServerCore(std::shared_ptr<ServedModel> model, const ServerOptions& options, JobQueue& queue,
             ServerCounters& counters);

  // Handles one message: at most one message to the same peer comes back at once; accepted
  // requests go to the queue. Requests that left the queue for it are in `dropped`, to be
  // completed. The payload of a request is not read: a server that is full answers quickly.
  std::optional<Frames> receive(const Incoming& incoming, std::int64_t now_us,
                                std::vector<Answer>& dropped);
  // The message for an answer; none where the peer's session is over. Every accepted request is
  // completed once.
  std::optional<Frames> complete(const Answer& answer, std::int64_t now_us);

  // From now on, greetings and requests are for this model; those accepted stay with theirs.
  void set_model(std::shared_ptr<ServedModel> model);

  // From now on, hellos and requests are refused.
  void shut_down() { shutting_down_ = true; }
  bool shutting_down() const { return shutting_down_; }
  // Accepted and not completed yet.
  std::size_t outstanding() const { return outstanding_; }

 private:
  Frames on_hello(const Incoming& incoming, const Envelope& envelope, const Hello& hello,
                  std::int64_t now_us);
  std::optional<Frames> on_infer(const Incoming& incoming, const Envelope& envelope,
                                 const Infer& infer, std::int64_t now_us,
                                 std::vector<Answer>& dropped);
  std::optional<Frames> admit(const Incoming& incoming, Session& session, std::uint64_t request_id,
                              const Infer& infer, std::int64_t left_us, std::int64_t now_us,
                              std::vector<Answer>& dropped);
  std::optional<Frames> handle(const Incoming& incoming, const Message& message,
                               std::int64_t now_us, std::vector<Answer>& dropped);
  void drop(std::vector<Job>& jobs, Shed reason, std::vector<Answer>& dropped);
  Session* count_completed(const Answer& answer);
  Frames on_invalid(const Incoming& incoming, const Status& status, std::int64_t now_us);
  std::optional<Refusal> check(const Envelope& envelope, const Infer& infer) const;
  void count_refusal(const Refusal& refusal);
  Frames refuse(std::uint64_t request_id, const Refusal& refusal, std::int64_t now_us);
  Frames refuse_bad(std::uint64_t request_id, std::string text, std::int64_t now_us);
  Frames shed(const Session& session, std::uint64_t request_id, Shed reason, std::int64_t now_us);
  Envelope envelope(std::uint64_t request_id, std::int64_t now_us) const;
  void count_queue();

  std::shared_ptr<ServedModel> model_;
  const std::uint32_t max_window_;
  JobQueue& queue_;
  ServerCounters& counters_;
  SessionTable sessions_;
  std::size_t outstanding_ = 0;
  bool shutting_down_ = false;
};

}  // namespace splitee::transport
