// Standard output or a file, written by whole records, with errors that name it.
// A pipe or a terminal gets each record at once; a regular file at flush() and close(), and with
// the first record after a second.
//
// Thread rule: one thread at a time. prepare_process() must have been called.
#pragma once

#include <chrono>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/status.h"
#include "tools/stop_signal.h"

namespace splitee::tools {

class OutputFile {
 public:
  // `path` is "-" for standard output. An existing file is replaced. With `stop` (which must
  // outlive the file) a reader that has stopped reading holds up the program until a few seconds
  // after the signal and no longer.
  static runtime::Result<OutputFile> open(const std::string& path, StopSignal* stop = nullptr);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) = delete;
  ~OutputFile();

  runtime::Status write(std::string_view record);
  // Writes out what is buffered.
  runtime::Status flush();
  // Flushes and closes; full disks are often told of only here.
  runtime::Status close();

 private:
  OutputFile() = default;
  // Until a write of up to PIPE_BUF bytes does not block.
  runtime::Status wait_writable();
  int fd_ = -1;
  StopSignal* stop_ = nullptr;
  std::optional<std::chrono::steady_clock::time_point> give_up_at_;
  bool buffered_ = false;
  std::string name_;
  std::string buffer_;
  std::chrono::steady_clock::time_point last_flush_;
};

// Refuses a file to write (empty: none) that is also one of the files to read; "-" stands for
// standard input. To be asked before `output` is opened.
runtime::Status refuse_overwrite(const std::string& output,
                                 std::initializer_list<std::string> inputs);

}  // namespace splitee::tools
