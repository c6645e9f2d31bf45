// What the tests of the server share beyond peers.h.
#pragma once

#include <condition_variable>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/transport/peers.h"

namespace splitee::transport::testing {

inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

inline std::string kind_of(const OffloadOutcome& outcome) {
  return to_string(outcome.kind);
}

inline std::string name_of(std::optional<RefuseCode> code) {
  return code ? std::string(transport::to_string(*code)) : "none";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Where workers wait until the test lets them go on.
class Gate {
 public:
  void pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    --waiting_;
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  bool wait_for(int waiting) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return waiting_ >= waiting; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  bool open_ = false;
};

template <class Condition>
bool eventually(Condition condition) {
  const std::int64_t until_us = now_us() + kPatienceUs;
  while (!condition()) {
    if (now_us() > until_us) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

inline std::unique_ptr<Client> ready_client(const RunningServer& server) {
  auto client = make_client(client_options({server.endpoint()}));
  REQUIRE_MESSAGE(client->wait_available(kPatienceUs), client->last_problem());
  return client;
}

// length 0: as many units as words.
inline Frames input_frames(const Envelope& envelope, const std::vector<std::int32_t>& words,
                           std::size_t length = 0, std::uint32_t kind = 1) {
  return std::move(*encode_input(envelope, 5'000'000, kind, length == 0 ? words.size() : length,
                                 std::as_bytes(std::span(words))));
}

}  // namespace splitee::transport::testing
