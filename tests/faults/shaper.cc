#include "tests/faults/shaper.h"

#include <algorithm>
#include <cmath>

namespace splitee::faults {
namespace {

constexpr std::size_t kMostOnTheWay = std::size_t{64} << 20;
constexpr std::int64_t kSmallestQuantum = 1'448;  // a TCP segment
constexpr std::int64_t kQuantaPerSecond = 1'000;
constexpr double kMicroseconds = 1e6;

// Removes the front of a buffer without moving the rest each time.
void drop_front(std::string& bytes, std::size_t& begin, std::size_t count) {
  begin += count;
  if (begin == bytes.size()) {
    bytes.clear();
    begin = 0;
  } else if (begin > bytes.size() / 2) {
    bytes.erase(0, begin);
    begin = 0;
  }
}

}  // namespace

bool Shaper::wants_input() const {
  return !end_ && sendable() < faults_.buffer_bytes &&
         arrived_.size() - arrived_begin_ < faults_.buffer_bytes &&
         on_the_way_bytes_ < kMostOnTheWay;
}

std::size_t Shaper::sendable() const {
  return waiting_.size() - waiting_begin_;
}

void Shaper::push(std::string bytes, std::int64_t now_us) {
  if (end_) return;
  // A link that was idle has saved nothing up.
  if (sendable() == 0) {
    credit_bytes_ = 0;
    served_us_ = now_us;
  }
  waiting_ += bytes;
  advance(now_us);
}

void Shaper::push_end(End end) {
  if (!end_) end_ = end;
}

std::int64_t Shaper::quantum() const {
  const auto per_quantum = static_cast<std::int64_t>(faults_.rate_bytes_s) / kQuantaPerSecond;
  const std::int64_t most = std::max(kSmallestQuantum, per_quantum);
  return std::min(most, static_cast<std::int64_t>(sendable()));
}

void Shaper::serve_link(std::int64_t now_us) {
  const auto passed = static_cast<double>(now_us - served_us_);
  served_us_ = now_us;
  if (faults_.rate_bytes_s == 0) return send(sendable(), now_us);
  credit_bytes_ += passed * static_cast<double>(faults_.rate_bytes_s) / kMicroseconds;
  if (credit_bytes_ < static_cast<double>(quantum())) return;
  const auto bytes =
      static_cast<std::size_t>(std::min(credit_bytes_, static_cast<double>(sendable())));
  credit_bytes_ -= static_cast<double>(bytes);
  send(bytes, now_us);
}

void Shaper::send(std::size_t bytes, std::int64_t now_us) {
  if (bytes == 0 || ended_early_) return;
  Piece piece{0, waiting_.substr(waiting_begin_, bytes)};
  drop_front(waiting_, waiting_begin_, bytes);
  apply_positions(piece.bytes);
  const std::int64_t jitter_us =
      faults_.jitter_us > 0
          ? static_cast<std::int64_t>(random_() % static_cast<std::uint64_t>(faults_.jitter_us + 1))
          : 0;
  last_arrival_us_ = std::max(last_arrival_us_, now_us + faults_.delay_us + jitter_us);
  piece.arrives_us = last_arrival_us_;
  on_the_way_bytes_ += piece.bytes.size();
  on_the_way_.push_back(std::move(piece));
}

void Shaper::corrupt(char& byte) {
  byte = static_cast<char>(byte ^ (1 << (random_() % 8)));
  ++corrupted_;
}

void Shaper::apply_positions(std::string& bytes) {
  for (const auto& [position, end] :
       {std::pair{faults_.cut_at, End::kClose}, std::pair{faults_.reset_at, End::kReset}}) {
    if (!position || sent_ + bytes.size() < *position) continue;
    bytes.resize(*position > sent_ ? *position - sent_ : 0);
    end_ = end;
    ended_early_ = true;
    waiting_.clear();
    waiting_begin_ = 0;
  }
  if (faults_.corrupt_at && *faults_.corrupt_at >= sent_ &&
      *faults_.corrupt_at < sent_ + bytes.size()) {
    corrupt(bytes[*faults_.corrupt_at - sent_]);
  }
  if (faults_.corrupt_probability > 0) {
    std::geometric_distribution<std::uint64_t> gap(std::min(faults_.corrupt_probability, 0.999));
    for (std::uint64_t i = gap(random_); i < bytes.size(); i += 1 + gap(random_)) corrupt(bytes[i]);
  }
  sent_ += bytes.size();
}

void Shaper::advance(std::int64_t now_us) {
  if (faults_.stalled) {
    served_us_ = now_us;
    return;
  }
  serve_link(now_us);
  while (!on_the_way_.empty() && on_the_way_.front().arrives_us <= now_us) {
    on_the_way_bytes_ -= on_the_way_.front().bytes.size();
    arrived_ += on_the_way_.front().bytes;
    on_the_way_.pop_front();
  }
}

std::string_view Shaper::arrived() const {
  if (faults_.stalled) return {};
  return std::string_view(arrived_).substr(arrived_begin_);
}

void Shaper::take(std::size_t bytes) {
  delivered_ += bytes;
  drop_front(arrived_, arrived_begin_, bytes);
}

std::optional<End> Shaper::ended() const {
  const bool empty = sendable() == 0 && on_the_way_.empty() && arrived_.empty();
  return empty && !faults_.stalled ? end_ : std::nullopt;
}

std::optional<std::int64_t> Shaper::next_us() const {
  if (faults_.stalled) return std::nullopt;
  std::optional<std::int64_t> next;
  if (!on_the_way_.empty()) next = on_the_way_.front().arrives_us;
  if (sendable() > 0 && faults_.rate_bytes_s > 0) {
    const double missing = static_cast<double>(quantum()) - credit_bytes_;
    const double wait_us = missing * kMicroseconds / static_cast<double>(faults_.rate_bytes_s);
    const auto ready_us = served_us_ + static_cast<std::int64_t>(std::ceil(std::max(0.0, wait_us)));
    next = std::min(next.value_or(ready_us), ready_us);
  }
  return next;
}

}  // namespace splitee::faults
