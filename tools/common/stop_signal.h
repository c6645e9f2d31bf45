// SIGINT, SIGTERM and SIGHUP as readable descriptors, so that a wait for input ends by them without
// a race. After the first one that is to end the program, the next one ends it as usual.
// Thread rule: begin() in the main thread before any other thread exists (they inherit the blocked
// signals); then one thread at a time.
#pragma once

namespace splitee::tools {

class StopSignal {
 public:
  // What SIGHUP means: the same as the others, or that the output is to be opened anew. Where it is
  // ignored from the start (nohup), it stays so.
  enum class Hangup { kStops, kReopens };

  StopSignal() = default;
  explicit StopSignal(Hangup hangup) { begin(hangup); }
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  // From here on signals are seen here; before, they end the program.
  void begin(Hangup hangup);

  // Whether one has come that ends the program; never blocks.
  bool received();
  // Readable once one has come (until received() takes it). -1 if there is none.
  int fd() const { return fd_; }
  // Whether SIGHUP has come since the last call, where it does not end the program; never blocks.
  bool take_hangup();

 private:
  int fd_ = -1, hangup_fd_ = -1;
  bool received_ = false;
};

}  // namespace splitee::tools
