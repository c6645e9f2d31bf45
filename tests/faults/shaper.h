// One direction of a link with faults: bytes go in when they arrive and come out when a link of
// that rate and delay would have delivered them. A connection is a byte stream, so order is kept.
//
// Three stages: waiting for the link (served at the rate), on the way (each piece with the time of
// its arrival), arrived. Delay is a pipeline: any number of pieces are on the way at once.
// Thread rule: one thread. Times are microseconds of one monotonic clock; the seed decides jitter
// and corruption.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <string>
#include <string_view>

namespace splitee::faults {

struct Faults {
  std::int64_t delay_us = 0;
  std::int64_t jitter_us = 0;              // added to the delay, uniform in [0, jitter]
  std::uint64_t rate_bytes_s = 0;          // 0: not limited
  std::uint64_t buffer_bytes = 256 << 10;  // waiting for the link; beyond it the sender is held
  bool stalled = false;                    // nothing moves
  double corrupt_probability = 0;          // per byte, one bit of it
  // Positions in the stream of each connection.
  std::optional<std::uint64_t> corrupt_at;  // one bit of this byte is flipped
  std::optional<std::uint64_t> cut_at;      // closed after so many bytes
  std::optional<std::uint64_t> reset_at;    // reset after so many bytes
};

enum class End { kClose, kReset };

class Shaper {
 public:
  // `faults` may change at any time after an advance(); it must outlive the shaper.
  Shaper(const Faults& faults, std::uint64_t seed) : faults_(faults), random_(seed) {}

  bool wants_input() const;
  void push(std::string bytes, std::int64_t now_us);
  // The stream ends behind what was pushed.
  void push_end(End end);

  // Moves everything on to where it is at this time.
  void advance(std::int64_t now_us);
  // What has arrived; take(n) removes bytes of its front.
  std::string_view arrived() const;
  void take(std::size_t bytes);
  // How the stream ended, once everything before the end was taken.
  std::optional<End> ended() const;
  // When advance() next has something to do; nothing if only input or a change would give it work.
  std::optional<std::int64_t> next_us() const;

  std::uint64_t delivered() const { return delivered_; }
  std::uint64_t corrupted() const { return corrupted_; }

 private:
  struct Piece {
    std::int64_t arrives_us;
    std::string bytes;
  };
  std::size_t sendable() const;
  void serve_link(std::int64_t now_us);
  void send(std::size_t bytes, std::int64_t now_us);
  void apply_positions(std::string& bytes);
  void corrupt(char& byte);
  std::int64_t quantum() const;

  const Faults& faults_;
  std::mt19937_64 random_;
  std::string waiting_;
  std::size_t waiting_begin_ = 0;
  double credit_bytes_ = 0;  // what the rate allows to be sent now
  std::int64_t served_us_ = 0;
  std::deque<Piece> on_the_way_;
  std::size_t on_the_way_bytes_ = 0;
  std::int64_t last_arrival_us_ = 0;
  std::string arrived_;
  std::size_t arrived_begin_ = 0;
  std::uint64_t sent_ = 0, delivered_ = 0, corrupted_ = 0;
  std::optional<End> end_;
  bool ended_early_ = false;  // by cut_at or reset_at: later bytes are lost
};

}  // namespace splitee::faults
