// How many connections each key has, so that one key cannot take the places of all. A key is let in
// by the ZAP thread before its connection can be named; the connection is known from its first
// message on, and the places in between are held until that message or a deadline.
// Thread rule: safe from any thread. Times are microseconds of one monotonic clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>

namespace splitee::transport {

class KeyBook {
 public:
  // `most` connections per key; one that was let in and says nothing for `silent_us` is gone.
  KeyBook(std::size_t most, std::int64_t silent_us) : most_(most), silent_us_(silent_us) {}

  // Whether one more connection of `key` may come in; its place is taken then.
  bool admit(const std::string& key, std::int64_t now_us) {
    const std::lock_guard lock(mutex_);
    Entry& entry = entries_[key];
    while (!entry.silent.empty() && entry.silent.front() <= now_us) entry.silent.pop_front();
    const bool room = entry.open + entry.silent.size() < most_;
    if (room) entry.silent.push_back(now_us + silent_us_);
    return room;
  }
  // A connection has sent its first message.
  void speaks(const std::string& key) {
    const std::lock_guard lock(mutex_);
    Entry& entry = entries_[key];
    if (!entry.silent.empty()) entry.silent.pop_front();
    ++entry.open;
  }
  // Such a connection has ended.
  void ended(const std::string& key) {
    const std::lock_guard lock(mutex_);
    Entry& entry = entries_[key];
    if (entry.open > 0) --entry.open;
    if (entry.open == 0 && entry.silent.empty()) entries_.erase(key);
  }

 private:
  struct Entry {
    std::size_t open = 0;
    std::deque<std::int64_t> silent;  // until when
  };
  const std::size_t most_;
  const std::int64_t silent_us_;
  std::mutex mutex_;
  std::map<std::string, Entry> entries_;  // of keys on the allow-list only
};

}  // namespace splitee::transport
