// The subcommands of `splitee`, a file each. Each adds its flags to `app`, with a callback that
// runs it and leaves the exit code in `exit_code`.
#pragma once

#include <CLI/CLI.hpp>

namespace splitee::tools {

void add_calibrate(CLI::App& app, int& exit_code);
void add_compare(CLI::App& app, int& exit_code);
void add_features(CLI::App& app, int& exit_code);
void add_fit(CLI::App& app, int& exit_code);
void add_inspect(CLI::App& app, int& exit_code);
void add_profile(CLI::App& app, int& exit_code);
void add_tokenize(CLI::App& app, int& exit_code);
void add_trace(CLI::App& app, int& exit_code);
void add_replay(CLI::App& app, int& exit_code);
void add_load(CLI::App& app, int& exit_code);
void add_keygen(CLI::App& app, int& exit_code);

}  // namespace splitee::tools
