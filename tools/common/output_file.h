// Standard output or a file, written by whole records (lines), with errors that name it.
// A pipe or a terminal gets each record at once; a regular file at flush() and close(), and with
// the first record after a second. Files are appended to, so that another program may cut them.
//
// Thread rule: one thread at a time. prepare_process() must have been called.
#pragma once

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "tools/common/stop_signal.h"
#include "tools/common/write_end.h"

namespace splitee::tools {

class OutputFile {
 public:
  enum class Existing { kReplaced, kKept };

  // `path` is "-" for standard output. A kept file whose last line has no end gets one. A FIFO is
  // waited for until somebody reads it. With `stop` (which must outlive the file) every wait for a
  // reader ends within half a second after the signal, and a file is opened anew after a SIGHUP
  // that does not end the program.
  static Result<OutputFile> open(const std::string& path, StopSignal* stop = nullptr,
                                 Existing existing = Existing::kReplaced);

  // Of an error: which records are in the file is told by records(). What is left of a record that
  // did not fit on the disk is taken back, and nothing is written from then on, so that no record
  // is missing between others: the error comes back each time.
  Status write(std::string_view record);
  // Writes out what is buffered.
  Status flush();
  // Flushes and closes; full disks are often told of only here.
  Status close();

  // Written as a whole so far.
  std::uint64_t records() const { return records_; }
  // Whether there was an error of writing.
  bool failed() const { return !error_.ok(); }

 private:
  OutputFile() = default;
  Status open_end(bool truncate);
  Status end_last_line();
  Status reopen();
  Status write_buffer();
  // Until there is room for some bytes.
  Status wait_writable();
  void take_back(std::size_t bytes);

  WriteEnd end_;
  StopSignal* stop_ = nullptr;
  std::optional<std::chrono::steady_clock::time_point> give_up_at_;
  std::string path_, name_;
  std::string buffer_;
  std::uint64_t records_ = 0;
  Status error_;  // the first one of writing
  std::chrono::steady_clock::time_point last_flush_;
};

// Refuses a file to write (empty: none) that is also one of the files to read; "-" stands for
// standard input. To be asked before `output` is opened.
Status refuse_overwrite(const std::string& output, std::initializer_list<std::string> inputs);

// For a file (empty: none) that is written as a whole once all work is done: refuses at the start
// what could not be written then, standard output ("-") among it.
Status check_whole_output(const std::string& output, std::initializer_list<std::string> inputs);

// Refuses two outputs (empty: none) that are one file, there already or not.
Status refuse_same_output(const std::string& output, const std::string& other);

}  // namespace splitee::tools
