#include "transport/counters.h"

#include <algorithm>

namespace splitee::transport {

void Histogram::add(std::int64_t value) {
  const auto bound = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  buckets_[static_cast<std::size_t>(bound - bounds_.begin())].fetch_add(1,
                                                                        std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

const char* to_string(Shed reason) {
  switch (reason) {
    case Shed::kQueueFull:
      return "queue_full";
    case Shed::kPeerFull:
      return "peer_full";
    case Shed::kWindow:
      return "window";
    case Shed::kWouldBeLate:
      return "would_be_late";
    case Shed::kMadeRoom:
      return "made_room";
    case Shed::kLateOnArrival:
      return "late_on_arrival";
    case Shed::kLateInQueue:
      return "late_in_queue";
    case Shed::kShuttingDown:
      return "shutting_down";
  }
  return "unknown";
}

EdgeTable::EdgeTable(const std::vector<std::string>& keys) {
  if (keys.empty()) return;
  std::vector<std::string> sorted = keys;
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  if (sorted.size() > kMaxEdges) sorted.resize(kMaxEdges);
  for (std::string& key : sorted)
    entries_.push_back(std::make_unique<EdgeCounters>(std::move(key)));
  entries_.push_back(std::make_unique<EdgeCounters>("other"));
}

EdgeCounters* EdgeTable::find(const std::string& key) {
  if (entries_.empty()) return nullptr;
  const auto end = entries_.end() - 1;
  const auto it = std::lower_bound(entries_.begin(), end, key,
                                   [](const std::unique_ptr<EdgeCounters>& entry,
                                      const std::string& k) { return entry->key < k; });
  return it != end && (*it)->key == key ? it->get() : end->get();
}

}  // namespace splitee::transport
