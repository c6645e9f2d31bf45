#include "tools/edge/board.h"

#include <algorithm>
#include <charconv>

#include "tools/edge/sysfs.h"

namespace splitee::tools {
namespace {

// Bits of the firmware: the clock is capped now, throttled now, at its soft temperature limit now.
constexpr unsigned kHeldNow = 0x2 | 0x4 | 0x8;

std::optional<bool> held_by_firmware(const std::string& root) {
  const std::string word = read_word(root + "/sys/devices/platform/soc/soc:firmware/get_throttled");
  unsigned bits = 0;
  const char* const begin = word.data() + (word.starts_with("0x") ? 2 : 0);
  const auto [end, problem] = std::from_chars(begin, word.data() + word.size(), bits, 16);
  if (problem != std::errc() || end == begin) return std::nullopt;
  return (bits & kHeldNow) != 0;
}

}  // namespace

Board read_board(const std::string& root) {
  Board board;
  for (const auto& zone : entries(root + "/sys/class/thermal")) {
    if (!zone.filename().string().starts_with("thermal_zone")) continue;
    const std::optional<double> milli = read_number(zone / "temp");
    if (milli) {
      board.temperature_celsius = std::max(board.temperature_celsius.value_or(0.0), *milli / 1000);
    }
  }
  board.throttled = held_by_firmware(root);
  for (const auto& policy : entries(root + "/sys/devices/system/cpu/cpufreq")) {
    const std::optional<double> limit = read_number(policy / "scaling_max_freq");
    const std::optional<double> highest = read_number(policy / "cpuinfo_max_freq");
    if (limit && highest) board.throttled = board.throttled.value_or(false) || *limit < *highest;
  }
  return board;
}

}  // namespace splitee::tools
