// SIGINT and SIGTERM as a readable descriptor, so that a wait for input ends by them without a
// race. After the first one is seen, the next one ends the process as usual.
// Thread rule: create it in the main thread before any other thread exists (they inherit the
// blocked signals); then one thread at a time.
#pragma once

namespace splitee::tools {

class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // Whether one has come; never blocks.
  bool received();
  // Readable once one has come (until received() takes it). -1 if there is none.
  int fd() const { return fd_; }

 private:
  int fd_ = -1;
  bool received_ = false;
};

}  // namespace splitee::tools
