// Whole-file access with errors that name the path. Only regular files are opened.
// Thread rule: free functions are re-entrant; a MappedFile is immutable.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "runtime/status.h"

namespace splitee::runtime {

// A read-only private mapping of a whole regular file, unmapped at destruction.
class MappedFile {
 public:
  static Result<MappedFile> open(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();
  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile() = default;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// Reads a regular file of at most `max_bytes`.
Result<std::string> read_file(const std::string& path, std::size_t max_bytes);

// Old content or new, never a mixture: temporary file beside it, fsync, rename, fsync of the
// folder. On failure the old file is untouched and the temporary one removed; only where the last
// step fails, the new file is in place. Refuses to replace anything but a regular file. `mode` is
// that of the new file, before the process's umask. One writer per process and path at a time.
Status write_file_atomically(const std::string& path, std::span<const std::byte> bytes,
                             unsigned mode = 0666);

}  // namespace splitee::runtime
