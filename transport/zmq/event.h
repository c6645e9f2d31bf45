// A flag that a poll can wait for.
// Thread rule: signal() from any thread and from signal handlers; the rest by the waiting thread.
#pragma once

namespace splitee::transport {

class Event {
 public:
  // Throws std::system_error where the system gives no descriptor.
  Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event();

  void signal() noexcept;
  void clear();
  int fd() const { return fd_; }

 private:
  int fd_;
};

}  // namespace splitee::transport
