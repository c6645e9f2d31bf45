// Whole text files that are zstd-compressed where their name ends in ".zst".
// Thread rule: free functions. Errors name the path.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace splitee::tools {

// Fails beyond `max_bytes` of text, for a .zst file beyond 200 times its size already where that is
// more than 256 MiB, and where memory lacks. A .zst file may hold several frames, one after the
// other.
Result<std::string> read_text_file(const std::string& path, std::size_t max_bytes);

// Atomically: the old file or the new one.
Status write_text_file(const std::string& path, std::string_view text);

}  // namespace splitee::tools
