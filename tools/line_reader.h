// Lines of a file or of standard input, of any bytes, without their ends ("\n" or "\r\n"), a
// UTF-8 byte order mark at the start dropped. A last line without an end ("\n") counts.
// Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/status.h"

namespace splitee::tools {

class LineReader {
 public:
  static constexpr std::size_t kMaxLineBytes = std::size_t{64} << 20;

  // `path` is "-" for standard input. A wait for input ends once `stop_fd` (if not -1) is readable.
  static runtime::Result<LineReader> open(const std::string& path, int stop_fd = -1);
  LineReader(LineReader&& other) noexcept;
  LineReader& operator=(LineReader&& other) = delete;
  ~LineReader();

  // The next line, valid until the next call; nothing at the end of the input or when stopped.
  // Fails if reading fails or a line is longer than kMaxLineBytes.
  runtime::Result<std::optional<std::string_view>> next();

  // Whether next() would return without waiting. Takes in what is there, and never waits itself.
  runtime::Result<bool> ready();

  // Readable when ready() may say something else.
  int fd() const { return fd_; }
  // Whether `stop_fd` has ended the lines.
  bool stopped() const { return stopped_; }
  // 1-based, of the line last returned.
  std::size_t line_number() const { return line_number_; }
  // For messages.
  const std::string& name() const { return name_; }
  // Of the lines returned so far.
  std::uint64_t bytes_taken() const { return bytes_read_ - (buffer_.size() - begin_); }
  // Of a regular file; 0 where unknown.
  std::uint64_t total_bytes() const { return total_bytes_; }

 private:
  LineReader() = default;
  // Reads more bytes behind those held; false at the end or when stopped.
  runtime::Result<bool> fill();
  // Length of the first line held, without its end; npos where no end is held.
  std::size_t find_end();
  std::string_view take_line(std::size_t length, std::size_t end_length);

  int fd_ = -1;
  int stop_fd_ = -1;
  std::string name_;
  std::string buffer_;  // bytes [begin_, size) are not yet handed out
  std::size_t begin_ = 0;
  std::size_t searched_ = 0;  // bytes from begin_ on that hold no line end
  std::size_t line_number_ = 0;
  std::uint64_t bytes_read_ = 0, total_bytes_ = 0;
  bool ended_ = false;
  bool stopped_ = false;
};

}  // namespace splitee::tools
