// Names what a command line holds that no flag or command of a program is called, with the word
// that was probably meant. Thread rule: free functions.
#pragma once

#include <optional>
#include <string>

#include <CLI/CLI.hpp>

namespace splitee::tools {

// After a failed parse: a message about the first such word, or nothing.
std::optional<std::string> unknown_word(const CLI::App& app);

}  // namespace splitee::tools
