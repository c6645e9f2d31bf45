// Lines of a file or of standard input, of any bytes, without their ends ("\n" or "\r\n"), a
// UTF-8 byte order mark at the start dropped. A last line without an end ("\n") counts.
// Thread rule: one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace splitee::tools {

class LineReader {
 public:
  static constexpr std::size_t kMaxLineBytes = std::size_t{64} << 20;

  // `path` is "-" for standard input. A wait for input ends once `stop_fd` (if not -1) is readable;
  // so does the wait for somebody who writes to a FIFO. A folder can be opened, but not read.
  static Result<LineReader> open(const std::string& path, int stop_fd = -1);
  // Over lines that are there already; there is no fd() then.
  static LineReader of_text(std::string name, std::string text);
  LineReader(LineReader&& other) noexcept;
  LineReader& operator=(LineReader&& other) = delete;
  ~LineReader();

  // The next line, valid until the next call; nothing at the end of the input or when stopped.
  // Fails if reading fails. Of a line longer than kMaxLineBytes nothing is kept but that it was
  // there: too_long().
  Result<std::optional<std::string_view>> next();

  // The next `bytes` (> 0) bytes, which count as a line, whatever they are; else as next(). Fails
  // where the input ends within them.
  Result<std::optional<std::string_view>> next_block(std::size_t bytes);

  // Whether next(), or next_block() where `block_bytes` is not 0, would return without waiting.
  // Takes in what is there, and never waits itself.
  Result<bool> ready(std::size_t block_bytes = 0);

  // Whether the line last returned was, and is empty therefore.
  bool too_long() const { return too_long_; }

  // Readable when ready() may say something else.
  int fd() const { return fd_; }
  // Whether `stop_fd` has ended the lines.
  bool stopped() const { return stopped_; }
  // 1-based, of the line last returned.
  std::size_t line_number() const { return line_number_; }
  bool is_folder() const { return is_folder_; }
  // For messages.
  const std::string& name() const { return name_; }
  // Of the lines returned so far.
  std::uint64_t bytes_taken() const { return bytes_read_ - (buffer_.size() - begin_); }
  // Of a regular file; 0 where unknown.
  std::uint64_t total_bytes() const { return total_bytes_; }

 private:
  LineReader() = default;
  // Reads more bytes behind those held; false at the end or when stopped.
  Result<bool> fill();
  bool holds(std::size_t block_bytes);
  // Length of the first line held, without its end; npos where no end is held.
  std::size_t find_end();
  std::string_view take_line(std::size_t length, std::size_t end_length);
  // Drops what is held of a line that is too long.
  void drop_overlong();

  int fd_ = -1;
  int stop_fd_ = -1;
  std::string name_;
  std::string buffer_;  // bytes [begin_, size) are not yet handed out
  std::size_t begin_ = 0;
  std::size_t searched_ = 0;  // bytes from begin_ on that hold no line end
  std::size_t line_number_ = 0;
  std::uint64_t bytes_read_ = 0, total_bytes_ = 0;
  bool ended_ = false;
  bool is_folder_ = false;
  bool stopped_ = false;
  bool dropping_ = false;  // the line whose end comes next
  bool too_long_ = false;
};

}  // namespace splitee::tools
