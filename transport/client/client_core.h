// What a Client decides, without sockets, clocks or threads: time is passed in, and connections are
// an interface. The same code runs over ZeroMQ and under a simulated network.
// Thread rule: one thread at a time. Errors: none; everything that can go wrong is an outcome.
// Times are microseconds of one monotonic clock.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "transport/client/client_options.h"
#include "transport/client/offload.h"
#include "transport/client/retry_budget.h"
#include "transport/wire/wire.h"

namespace splitee::transport {

// Connections to the servers, by index into ClientOptions::endpoints.
class Connections {
 public:
  virtual ~Connections() = default;
  // Begins a fresh connection.
  virtual void open(std::size_t link) = 0;
  // Drops the connection and whatever waits to be sent on it.
  virtual void close(std::size_t link) = 0;
  // False where it cannot be sent at once (not connected yet, peer gone, queue full).
  virtual bool send(std::size_t link, Frames frames) = 0;
  // Why there is no connection yet; may be empty.
  virtual std::string problem(std::size_t /*link*/) const { return {}; }
};

class ClientCore {
 public:
  // `connections` must outlive the core.
  ClientCore(const ClientOptions& options, Connections& connections);

  // Moves everything on that waits for time: expiry of requests, hellos, probes. Call it after
  // the messages that have arrived were given to receive().
  void tick(std::int64_t now_us);
  // When tick() next has something to do.
  std::int64_t next_event_us() const;
  // Whether a link waits for its connection: tick() is due when it becomes writable.
  bool connecting(std::size_t link) const;

  void receive(std::size_t link, std::span<const std::span<const std::byte>> frames,
               std::int64_t now_us);

  // The connection that was opened could not be made. `refused`: asking again soon is of no use.
  void connect_failed(std::size_t link, std::string problem, bool refused, std::int64_t now_us);

  // The peer is gone: what was in flight ends now, not at its deadline. Connecting goes on by
  // itself.
  void disconnected(std::size_t link, std::int64_t now_us);

  bool available() const;
  bool ready() const;
  RequestId submit(const OffloadRequest& request, std::int64_t deadline_us, std::int64_t now_us);
  std::optional<RequestId> retry(const OffloadRequest& request, const OffloadOutcome& failed,
                                 std::int64_t deadline_us, std::int64_t now_us);
  std::optional<LinkProbe> take_probe() { return std::exchange(probe_, std::nullopt); }
  std::optional<OffloadOutcome> take(RequestId request_id);
  std::optional<Completion> take_oldest();
  bool has_outcome() const { return !done_.empty(); }
  std::size_t in_flight() const { return pending_.size(); }

  std::string last_problem() const;
  const ClientCounters& counters() const { return counters_; }

 private:
  struct Link {
    enum class State {
      kDown,        // no connection until next_us
      kConnecting,  // hello not sent yet; gives up at next_us
      kGreeting,    // hello sent; gives up at next_us
      kReady,
      kPaused,  // connected but out of use until next_us, then greeted again
    };
    State state = State::kDown;
    std::int64_t next_us = 0;
    std::uint64_t hello_id = 0;
    std::uint64_t ping_id = 0;     // 0: none on its way
    std::int64_t asked_us = 0;     // the hello or the ping
    std::int64_t answered_us = 0;  // last sign of life
    std::uint32_t failures = 0;    // probes in a row without a reply since
    std::uint32_t timeouts = 0;    // requests in a row
    std::uint32_t busy = 0;        // refusals in a row
    std::size_t in_flight = 0;
    Welcome welcome;
    std::string problem;
  };
  struct Pending {
    std::size_t link;
    std::int64_t sent_us, expires_us;
    std::uint64_t bytes;
    Dtype dtype;
  };
  using PendingMap = std::map<std::uint64_t, Pending>;
  using Kind = OffloadOutcome::Kind;

  static constexpr std::size_t kNoLink = static_cast<std::size_t>(-1);

  bool usable(const Link& link) const;
  // The first usable link but `avoid`; kNoLink where there is none.
  std::size_t find_usable(std::size_t avoid) const;
  Result<Frames> encode_request(const OffloadRequest& request, const Link& link,
                                const Envelope& envelope, std::uint64_t time_us,
                                Dtype& dtype) const;
  RequestId submit_to(std::size_t link, const OffloadRequest& request, std::int64_t deadline_us,
                      std::int64_t now_us);
  RequestId fail(Kind kind, std::string reason);
  std::int64_t ping_us(const Link& link) const;
  void keep_alive(std::size_t index, std::int64_t now_us);
  void on_pong(std::size_t index, const Envelope& from, std::int64_t now_us);
  Envelope envelope(std::int64_t now_us);
  std::int64_t backoff_us(std::uint32_t step, std::uint32_t most_ms = UINT32_MAX);
  std::int64_t slow_retry_us();

  void expire_requests(std::int64_t now_us);
  void advance(std::size_t index, std::int64_t now_us);
  void try_hello(std::size_t index, std::int64_t now_us);
  void greet_again(std::size_t index, std::int64_t now_us);
  void pause(Link& link, std::uint32_t step, std::int64_t now_us);
  void drop(std::size_t index, std::string problem, std::int64_t retry_us);

  void on_welcome(std::size_t index, const Envelope& envelope, const Welcome& welcome,
                  std::int64_t now_us);
  void on_reply(std::size_t index, const Envelope& envelope, Reply reply, std::int64_t now_us);
  void on_refusal(std::size_t index, const Envelope& envelope, const Refusal& refusal,
                  std::int64_t now_us);
  void on_hello_refused(std::size_t index, const Envelope& envelope, const Refusal& refusal,
                        std::int64_t now_us);
  void after_refusal(std::size_t index, const Envelope& envelope, RefuseCode code,
                     std::int64_t now_us);
  void drop_invalid(std::size_t index, const std::string& why, std::int64_t now_us);
  void count_stray(std::uint64_t id);

  PendingMap::iterator find_pending(std::size_t index, std::uint64_t id);
  OffloadOutcome& finish(PendingMap::iterator it, Kind kind, std::string reason,
                         std::int64_t now_us);
  std::string wrong_model_text(std::uint64_t server_hash) const;

  ClientOptions options_;
  Connections& connections_;
  std::vector<Link> links_;
  PendingMap pending_;
  std::map<RequestId, OffloadOutcome> done_;
  std::uint64_t next_id_ = 1;
  Rng jitter_;
  RetryBudget retries_;
  std::optional<LinkProbe> probe_;
  ClientCounters counters_;
};

}  // namespace splitee::transport
