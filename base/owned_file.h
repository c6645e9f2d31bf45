// A file that one process at a time keeps: read at its start, replaced as often as it likes.
// Thread rule: one thread at a time.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/status.h"

namespace splitee {

class OwnedFile {
 public:
  // Follows symbolic links and makes an empty file where there is none. The file is locked (flock)
  // until destruction; where another process holds it, that is an error. Where the file system
  // knows no locks, or the file cannot be written to, it is opened without one. Removes what a
  // killed process has left beside it.
  static Result<OwnedFile> open(const std::string& path);
  OwnedFile(OwnedFile&& other) noexcept;
  OwnedFile& operator=(OwnedFile&&) = delete;
  ~OwnedFile();

  // The whole content, of at most `max_bytes`.
  Result<std::string> read(std::size_t max_bytes) const;

  // As write_file_atomically(), keeping mode and, where allowed, owner. Where nothing can be put in
  // the file's place (it is a mount of its own, or its folder is closed) the bytes are written into
  // the file: in_place() is true from then on, and a crash in the middle leaves a mixture.
  Status replace(std::span<const std::byte> bytes);
  bool in_place() const { return in_place_; }

 private:
  OwnedFile(std::string path, int descriptor);
  Status write_into(std::span<const std::byte> bytes);
  // Where `error` (errno) says that nothing but this can be done; else `status`.
  Status write_into(std::span<const std::byte> bytes, int error, Status status);

  std::string path_;
  int descriptor_;
  bool in_place_ = false;
};

}  // namespace splitee
