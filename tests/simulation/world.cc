#include "tests/simulation/world.h"

#include <algorithm>
#include <cstdio>

namespace splitee::simulation {
namespace {

constexpr std::int64_t kNever = std::int64_t{1} << 50;

}  // namespace

void World::after(std::int64_t delay_us, std::function<void()> action) {
  events_.push({now_us_ + std::max<std::int64_t>(0, delay_us), next_event_++, std::move(action)});
}

bool World::step(std::int64_t until_us) {
  if (events_.empty() || events_.top().at_us > until_us) {
    now_us_ = until_us;
    return false;
  }
  // The queue gives out const references only; the event is removed at once.
  Event event = std::move(const_cast<Event&>(events_.top()));
  events_.pop();
  now_us_ = event.at_us;
  event.action();
  return true;
}

std::int64_t World::between(std::int64_t low, std::int64_t high) {
  return low + static_cast<std::int64_t>(rng_.below(static_cast<std::uint32_t>(high - low + 1)));
}

std::int64_t World::around(std::int64_t mean) {
  const std::int64_t usual = mean / 2 + between(0, std::max<std::int64_t>(0, mean));
  return chance(0.01) ? usual * 20 : usual;
}

void World::note(std::string_view kind, std::size_t who, std::uint64_t a, std::uint64_t b) {
  const auto mix = [this](std::uint64_t value) { digest_ = mix_seed(digest_ ^ value); };
  for (const char letter : kind) mix(static_cast<unsigned char>(letter));
  mix(static_cast<std::uint64_t>(now_us_));
  mix(who);
  mix(a);
  mix(b);
  if (verbose_) {
    std::printf("%10.3f ms  %-12.*s %2zu  %llu %llu\n", static_cast<double>(now_us_) / 1e3,
                static_cast<int>(kind.size()), kind.data(), who, static_cast<unsigned long long>(a),
                static_cast<unsigned long long>(b));
  }
}

void World::require(bool condition, std::string_view promise, std::size_t who) const {
  if (condition) return;
  throw Broken(std::string(promise) + " (host " + std::to_string(who) + ", at " +
               std::to_string(now_us_) + " us)");
}

std::int64_t HostClock::until(std::int64_t local_us, std::int64_t world_us) const {
  const std::int64_t left_us = local_us - read(world_us);
  if (left_us <= 0) return 1;
  if (left_us > kNever) return left_us;
  // Slow clocks need longer; the step may round down once more.
  const std::int64_t slack = drift_ppm < 0 ? left_us / 1'000 * -drift_ppm / 1'000 + 1 : 0;
  return left_us + slack + step_us;
}

}  // namespace splitee::simulation
