// What a server counts: requests by outcome, refusals by reason, sizes and times.
// Thread rule: all members are atomic and only ever read or added to, from any thread; a reader
// sees each number alone, not a common moment.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace splitee::transport {

// 100 us to 30 s.
inline constexpr std::array<std::int64_t, 17> kTimeBoundsUs = {
    100,     250,     500,     1'000,     2'500,     5'000,     10'000,     25'000,    50'000,
    100'000, 250'000, 500'000, 1'000'000, 2'500'000, 5'000'000, 10'000'000, 30'000'000};
inline constexpr std::array<std::int64_t, 10> kBatchBounds = {1, 2, 3, 4, 6, 8, 12, 16, 32, 64};

// Counts values by size, as Prometheus does: bucket i holds the values up to bounds[i], the last
// one the rest.
class Histogram {
 public:
  static constexpr std::size_t kMaxBounds = 24;
  // At most kMaxBounds bounds, ascending, which must live as long as the histogram.
  explicit Histogram(std::span<const std::int64_t> bounds) : bounds_(bounds) {}
  void add(std::int64_t value);

  std::span<const std::int64_t> bounds() const { return bounds_; }
  // Values in bucket `i` alone, 0 <= i <= bounds().size().
  std::uint64_t bucket(std::size_t i) const { return buckets_[i].load(std::memory_order_relaxed); }
  std::int64_t sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  std::span<const std::int64_t> bounds_;
  std::array<std::atomic<std::uint64_t>, kMaxBounds + 1> buckets_{};
  std::atomic<std::int64_t> sum_{0};
};

// Why a good request was not run.
enum class Shed : std::uint8_t {
  kQueueFull,      // the queue is full, and this peer has the most in it
  kPeerFull,       // this peer has more bytes in the queue than one may have
  kWindow,         // more in flight than the window
  kWouldBeLate,    // the wait is longer than what is left of the deadline
  kMadeRoom,       // left the queue again for a peer with less in it
  kLateOnArrival,  // the deadline passed on the way
  kLateInQueue,    // the deadline passed in the queue
  kShuttingDown,
};
inline constexpr std::size_t kShedReasons = 8;
// "queue_full", "peer_full", ...
const char* to_string(Shed reason);

// What one edge with a key of its own has done.
struct EdgeCounters {
  explicit EdgeCounters(std::string edge_key) : key(std::move(edge_key)) {}
  const std::string key;  // Z85; "other" for edges beyond the table
  std::atomic<std::uint64_t> requests{0}, replies{0}, sheds{0}, bytes_in{0};
};

// The edges of an allow-list, at most kMaxEdges of them; the rest share one entry.
class EdgeTable {
 public:
  static constexpr std::size_t kMaxEdges = 64;
  explicit EdgeTable(const std::vector<std::string>& keys);
  // The entry of `key`; null without keys.
  EdgeCounters* find(const std::string& key);
  std::span<const std::unique_ptr<EdgeCounters>> entries() const { return entries_; }

 private:
  std::vector<std::unique_ptr<EdgeCounters>> entries_;  // sorted by key, then "other"
};

struct ServerCounters {
  explicit ServerCounters(const std::vector<std::string>& edge_keys = {}) : edges(edge_keys) {}

  // refusals: all refused messages, whatever they were; busy and expired: those of them with that
  // code.
  std::atomic<std::uint64_t> hellos{0}, requests{0}, replies{0}, refusals{0}, bad_frames{0},
      expired{0}, busy{0}, bytes_in{0}, bytes_out{0};
  std::array<std::atomic<std::uint64_t>, 9> refused_by_code{};  // by RefuseCode
  std::atomic<std::uint64_t> undeliverable{0};   // answers to peers that are gone or do not read
  std::atomic<std::uint64_t> denied{0};          // CURVE handshakes with a key that is not let in
  std::atomic<std::uint64_t> key_over_limit{0};  // part of it: too many connections of one key
  std::atomic<std::uint64_t> handshakes_failed{0};  // by a breach of the protocol, or wrong keys
  std::atomic<std::uint64_t> connections_accepted{0}, connections_over_limit{0};
  std::atomic<std::uint64_t> endless_messages{0};    // connections cut for one
  std::atomic<std::uint64_t> floods{0};              // and for more than could be read
  std::atomic<std::uint64_t> silent_connections{0};  // and for saying nothing at all
  std::atomic<std::uint64_t> renewals{0};            // sockets replaced for what they kept
  std::array<std::atomic<std::uint64_t>, kShedReasons> sheds{};
  std::atomic<std::uint64_t> reloads{0}, failed_reloads{0};
  std::atomic<std::uint64_t> model_hash{0};  // served to new requests
  std::atomic<std::uint64_t> sessions{0}, queued{0}, queued_bytes{0}, in_flight{0}, connections{0};
  Histogram batch_size{kBatchBounds};
  // Waiting; running, with its batch; received to sent.
  Histogram queue_us{kTimeBoundsUs}, service_us{kTimeBoundsUs}, total_us{kTimeBoundsUs};
  EdgeTable edges;
};

}  // namespace splitee::transport
