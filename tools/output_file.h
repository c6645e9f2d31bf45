// Standard output or a file, written by whole records, with errors that name it.
// A pipe or a terminal gets each record at once; a regular file at flush() and close(), and with
// the first record after a second. Thread rule: one thread at a time. SIGPIPE must be ignored by
// the program.
#pragma once

#include <chrono>
#include <initializer_list>
#include <string>
#include <string_view>

#include "runtime/status.h"

namespace splitee::tools {

// Fails where `path` is one of the files that the program reads, by whatever name: they would be
// overwritten.
runtime::Status check_not_input(const std::string& path, std::initializer_list<std::string> inputs);

class OutputFile {
 public:
  // `path` is "-" for standard output. An existing file is replaced, unless it is an input.
  static runtime::Result<OutputFile> open(const std::string& path,
                                          std::initializer_list<std::string> inputs);
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
  int fd_ = -1;
  bool buffered_ = false;
  std::string name_;
  std::string buffer_;
  std::chrono::steady_clock::time_point last_flush_;
};

}  // namespace splitee::tools
