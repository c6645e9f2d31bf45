// What Linux tells in small files under /sys. Thread rule: pure functions. Errors: what cannot be
// read is nothing, never an error.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace splitee::tools {

// The first word of a file; empty where there is none.
std::string read_word(const std::filesystem::path& path);
// A number of 0 or more.
std::optional<double> read_number(const std::filesystem::path& path);
// The entries of a folder by name; none where it cannot be read.
std::vector<std::filesystem::path> entries(const std::filesystem::path& folder);

}  // namespace splitee::tools
