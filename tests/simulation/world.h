// Virtual time for a deterministic simulation: one thread, one generator, events in order of time
// and, at the same time, of their making. The same seed makes the same run, bit for bit; digest()
// tells runs apart.
#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "base/rng.h"

namespace splitee::simulation {

// A broken promise. The message says which one, where and when.
class Broken : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class World {
 public:
  World(std::uint64_t seed, bool verbose) : rng_(seed), verbose_(verbose) {}

  std::int64_t now_us() const { return now_us_; }
  void after(std::int64_t delay_us, std::function<void()> action);
  // Runs the next event, if there is one not later than `until_us`; else sets the clock to it.
  bool step(std::int64_t until_us);

  Rng& rng() { return rng_; }
  bool chance(double probability) { return rng_.uniform() < probability; }
  std::int64_t between(std::int64_t low, std::int64_t high);  // both included
  // Around `mean`, now and then much more.
  std::int64_t around(std::int64_t mean);

  // Everything that happens is noted: kind, who, and two numbers.
  void note(std::string_view kind, std::size_t who, std::uint64_t a = 0, std::uint64_t b = 0);
  std::uint64_t digest() const { return digest_; }
  std::uint64_t events() const { return next_event_; }
  void require(bool condition, std::string_view promise, std::size_t who) const;

 private:
  struct Event {
    std::int64_t at_us;
    std::uint64_t number;
    std::function<void()> action;
    bool operator<(const Event& other) const {
      return at_us != other.at_us ? at_us > other.at_us : number > other.number;
    }
  };

  std::priority_queue<Event> events_;
  std::int64_t now_us_ = 0;
  std::uint64_t next_event_ = 0;
  Rng rng_;
  bool verbose_;
  std::uint64_t digest_ = 0;
};

// A host's monotonic clock: its own epoch, speed and step.
struct HostClock {
  std::int64_t offset_us = 0;
  std::int64_t drift_ppm = 0;
  std::int64_t step_us = 1;

  std::int64_t read(std::int64_t world_us) const {
    const std::int64_t local_us = offset_us + world_us + world_us / 1'000 * drift_ppm / 1'000;
    return local_us - local_us % step_us;
  }
  // World time that passes until the clock reads `local_us`, at least, or 1.
  std::int64_t until(std::int64_t local_us, std::int64_t world_us) const;
};

}  // namespace splitee::simulation
