// What the files of base/ that write files share. Internal to base/.
// Thread rule: free functions, re-entrant.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include <sys/stat.h>

#include "base/descriptor.h"
#include "base/status.h"

namespace splitee::file_parts {

// Of errno.
Status system_error(const std::string& path, const char* action);
Status not_regular(const std::string& path);

// All bytes, at the descriptor's place, then fsync.
Status write_and_sync(int descriptor, const std::string& path, std::span<const std::byte> bytes);
Status sync_folder_of(const std::string& path);

// A new file beside `path`, under a name that no other process uses, with the mode and, where
// allowed, the owner of the file that it is to replace; `mode` where there is none.
struct Temporary {
  std::string path;
  Descriptor descriptor;
};
Result<Temporary> make_temporary(const std::string& path, unsigned mode);
// What comes between the path and the part of the name that differs.
inline constexpr const char* kTemporaryMark = ".tmp-";

}  // namespace splitee::file_parts
