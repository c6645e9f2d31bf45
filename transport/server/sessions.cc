#include "transport/server/sessions.h"

#include <algorithm>

namespace splitee::transport {

std::int64_t DelayMeter::measure(std::uint64_t sender_clock_us, std::int64_t now_us) {
  // Unsigned, since the stamp is the peer's word and may be anything.
  const std::uint64_t offset = static_cast<std::uint64_t>(now_us) - sender_clock_us;
  if (!started_) {
    started_ = true;
    smallest_us_ = offset;
    crept_us_ = now_us;
  }
  // What is less than a step is kept for the next message.
  const std::int64_t creep = (now_us - crept_us_) / kCreep;
  crept_us_ += creep * kCreep;
  smallest_us_ += static_cast<std::uint64_t>(creep);
  const auto excess = static_cast<std::int64_t>(offset - smallest_us_);
  if (excess < 0) smallest_us_ = offset;
  return std::max<std::int64_t>(0, excess);
}

Session* SessionTable::find(std::string_view peer, std::string_view user) {
  const auto it = by_peer_.find(std::string(peer));
  if (it == by_peer_.end() || it->second->user != user) return nullptr;
  sessions_.splice(sessions_.begin(), sessions_, it->second);
  return &*it->second;
}

Session* SessionTable::find_serial(const std::string& peer, std::uint64_t serial) {
  const auto it = by_peer_.find(peer);
  return it != by_peer_.end() && it->second->serial == serial ? &*it->second : nullptr;
}

Session& SessionTable::start(std::string_view peer, std::string_view user) {
  if (const auto it = by_peer_.find(std::string(peer)); it != by_peer_.end()) {
    sessions_.erase(it->second);
    by_peer_.erase(it);
  }
  if (sessions_.size() >= most_) {
    by_peer_.erase(sessions_.back().peer);
    sessions_.pop_back();
  }
  Session session;
  session.peer = peer;
  session.user = user;
  session.serial = next_serial_++;
  sessions_.push_front(std::move(session));
  try {
    by_peer_[sessions_.front().peer] = sessions_.begin();
  } catch (...) {
    sessions_.pop_front();
    throw;
  }
  return sessions_.front();
}

}  // namespace splitee::transport
