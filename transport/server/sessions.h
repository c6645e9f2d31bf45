// The edges that have said hello to a server, the least recently heard first to go.
// Thread rule: one thread at a time. Times are microseconds of one monotonic clock.
#pragma once

#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>

#include "transport/counters.h"

namespace splitee::transport {

// Tells how long a message was on its way, beyond the fastest of the same peer, without a common
// clock: the difference between the receiver's clock and the sender's, against the smallest seen.
// The smallest creeps up by kCreep, so that clocks of different speed do not add up to a delay.
class DelayMeter {
 public:
  // Excess delay of a message stamped `sender_clock_us` that arrived now.
  std::int64_t measure(std::uint64_t sender_clock_us, std::int64_t now_us);

 private:
  static constexpr std::int64_t kCreep = 2'000;  // one microsecond in so many
  bool started_ = false;
  std::uint64_t smallest_us_ = 0;  // differences of clocks wrap
  std::int64_t crept_us_ = 0;
};

struct Session {
  std::string peer;  // routing id
  std::string user;  // CURVE key of the connection; empty without CURVE
  std::uint64_t serial = 0;
  std::uint64_t last_request_id = 0;
  std::uint32_t window = 1;
  std::uint32_t in_flight = 0;
  DelayMeter delay;
  EdgeCounters* edge = nullptr;  // null without keys
};

class SessionTable {
 public:
  explicit SessionTable(std::size_t most) : most_(most) {}

  // The session of `peer`, null where there is none or another user began it. Counts as use.
  Session* find(std::string_view peer, std::string_view user);
  // The session with this serial number, null where it is over. Does not count as use.
  Session* find_serial(const std::string& peer, std::uint64_t serial);
  // Begins one, in place of an earlier one of the same peer.
  Session& start(std::string_view peer, std::string_view user);
  std::size_t size() const { return by_peer_.size(); }

 private:
  using List = std::list<Session>;
  std::size_t most_;
  std::uint64_t next_serial_ = 1;
  List sessions_;  // most recently used first
  std::unordered_map<std::string, List::iterator> by_peer_;
};

}  // namespace splitee::transport
