// Finds what CLI11 takes and nobody means: values that are empty or have an empty part, another
// flag in place of a value, and "-" where no standard stream can be meant. Thread rule: free
// functions.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace splitee::tools {

// Before parsing: a message about the first such word, or nothing. "-" is a stream for options
// whose help says that it is one.
std::optional<std::string> odd_word(CLI::App& app, const std::vector<std::string>& words);

}  // namespace splitee::tools
