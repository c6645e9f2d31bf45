// Whole-file access with errors that name the path. Only regular files are opened.
// Thread rule: free functions are re-entrant; an InputFile is immutable.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/status.h"

namespace splitee {

// A regular file, open for reading at any place until destruction. It stays the file that was
// opened when another one gets its name.
class InputFile {
 public:
  static Result<InputFile> open(const std::string& path);
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;
  ~InputFile();

  const std::string& path() const { return path_; }
  std::size_t size() const { return size_; }  // when it was opened

  // Fills `out` with the bytes from `offset` on; kIo where the file ends before.
  Status read(std::size_t offset, std::span<std::byte> out) const;

 private:
  InputFile() = default;
  std::string path_;
  int descriptor_ = -1;
  std::size_t size_ = 0;
};

// Reads a regular file of at most `max_bytes`.
Result<std::string> read_file(const std::string& path, std::size_t max_bytes);

// Old content or new, never a mixture: temporary file beside it under a name of its own, fsync,
// rename, fsync of the folder. On failure the old file is untouched and the temporary one removed;
// only where the last step fails, the new file is in place. Refuses to replace anything but a
// regular file. The mode stays that of the file replaced; `mode` is that of a new one, before the
// process's umask.
Status write_file_atomically(const std::string& path, std::span<const std::byte> bytes,
                             unsigned mode = 0666);

// Whether write_file_atomically() could begin: to be asked before long work whose result it writes.
Status check_replaceable(const std::string& path);

}  // namespace splitee
