// How a board is doing, where Linux tells: its hottest temperature (sys/class/thermal), and whether
// its clock is held below its highest (cpufreq's limit, which cooling lowers, or the Raspberry Pi's
// firmware). What it costs is in the measured times of layers already (--costs live). Thread rule:
// a pure function. Errors: none.
#pragma once

#include <optional>
#include <string>

namespace splitee::tools {

struct Board {
  std::optional<double> temperature_celsius;
  std::optional<bool> throttled;

  bool known() const { return temperature_celsius || throttled; }
};

// As it is now; `root`: "" or another place of sys/.
Board read_board(const std::string& root);

}  // namespace splitee::tools
