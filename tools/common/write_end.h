// A descriptor to write to that never holds the program up inside the system, so that a wait for
// room can end by a signal or a deadline. Pipes and terminals are opened anew where that is
// possible: whether writing waits is a property of the open file, which a standard stream shares
// with other programs.
// Thread rule: immutable after construction; write() is re-entrant.
#pragma once

#include <string_view>

#include <sys/types.h>

namespace splitee::tools {

class WriteEnd {
 public:
  WriteEnd() = default;
  // Takes over a descriptor that was opened by this program, with O_NONBLOCK where it can wait.
  explicit WriteEnd(int fd);
  // A descriptor of its own for a standard stream; not valid where that is closed.
  static WriteEnd of_standard(int fd);
  WriteEnd(WriteEnd&& other) noexcept;
  WriteEnd& operator=(WriteEnd&& other) noexcept;
  ~WriteEnd();

  bool valid() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  // A regular file: never short of room but where the disk is full.
  bool regular() const { return kind_ == Kind::kRegular; }
  // Bytes taken; 0 where there is no room now; -1 with errno set where it fails.
  ssize_t write(std::string_view text) const;
  // False with errno set where the system reports that something was not written.
  bool close();

 private:
  enum class Kind { kRegular, kUnblocked, kSocket, kShared };
  WriteEnd(int fd, Kind kind) : fd_(fd), kind_(kind) {}

  int fd_ = -1;
  Kind kind_ = Kind::kShared;
};

}  // namespace splitee::tools
