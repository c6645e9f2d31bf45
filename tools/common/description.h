// What a program takes, as JSON: its options and commands with their help, read off the parser
// itself. Man pages and completions are made of it (tools/scripts/make_pages.py).
// Thread rule: a free function, of a parser that nobody changes meanwhile.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace splitee::tools {

// {"name", "version", "description", "footer", "options": [{"names", "type" (as --help shows it,
// empty for a flag), "help", "default", "required", "repeatable"}], "positionals": [...],
// "commands":
// [{"name", "description", "footer", "options", "positionals"}]}. What --help leaves out is left
// out.
std::string describe(const CLI::App& app);

}  // namespace splitee::tools
