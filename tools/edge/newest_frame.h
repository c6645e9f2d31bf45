// Keeps up with a camera that is faster than the network: a thread of its own reads the frames as
// they come, whatever a pipe holds, and keeps the newest one. A frame that a newer one overtakes
// before it is taken is late. Of a file, all frames are there at once: the last one is the newest.
// Thread rule: one thread, beside its own. Ownership: borrows the reader, which nobody else may use
// while this is there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "base/status.h"
#include "tools/common/sample_reader.h"

namespace splitee::tools {

class NewestFrame {
 public:
  // kIo where the operating system has no descriptor or thread left.
  static Result<std::unique_ptr<NewestFrame>> start(SampleReader& samples);
  ~NewestFrame();

  // Readable while there is something to take, or the input has ended.
  int fd() const { return fd_; }
  // The newest frame, with its age, and the ids of those that it overtook; kNoSample where none has
  // come since the last call. Errors of the input, and its end, come behind the last frame.
  Result<SampleReader::Row> take(Sample& sample, std::deque<std::uint64_t>& late);
  // Reads no more; what was not taken is late. The reader can be used again.
  void end(std::deque<std::uint64_t>& late);

 private:
  NewestFrame(SampleReader& samples, int fd, int end_fd);
  void read();
  // Waits for input, if it is to; false once the reading is to end.
  bool go_on(bool wait) const;
  // False behind the last frame.
  bool read_row(Sample& sample);
  void hand_out_late(std::deque<std::uint64_t>& late);

  SampleReader& samples_;
  const bool is_file_;
  const int fd_, end_fd_;
  mutable std::mutex mutex_;  // of what follows
  std::optional<Sample> newest_;
  Stopwatch read_;  // since the newest one was
  std::deque<std::uint64_t> late_;
  bool ended_ = false;
  Status status_;  // of the end
  std::thread thread_;
};

}  // namespace splitee::tools
