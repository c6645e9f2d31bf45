#include "tests/faults/settings.h"

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <sstream>
#include <string>

namespace splitee::faults {

const char* const kSettingsHelp =
    "  delay_ms=X       one way, 0 or more\n"
    "  jitter_ms=X      added to the delay, uniform in 0 .. X; order is kept\n"
    "  rate=BYTES       per second and connection; K and M are 1e3 and 1e6; 0: not limited\n"
    "  mbit=X           the same in Mbit/s\n"
    "  buffer=BYTES     waiting for the link before the sender is held (default 262144)\n"
    "  stall=0|1        nothing moves\n"
    "  corrupt=P        each byte with this probability, one bit of it\n"
    "  corrupt_at=N     byte N of each connection; 'off' ends this and the next two\n"
    "  cut_at=N         each connection is closed after N bytes\n"
    "  reset_at=N       each connection is reset (RST) after N bytes\n"
    "Each may begin with 'up.' (client to server) or 'down.'; without it both directions change.\n";

namespace {

constexpr double kMaxValue = 1e12;

std::optional<double> number(std::string_view text) {
  double scale = 1;
  if (text.ends_with('K')) scale = 1e3;
  if (text.ends_with('M')) scale = 1e6;
  if (scale > 1) text.remove_suffix(1);
  if (text.empty()) return std::nullopt;
  const std::string digits(text);
  char* end = nullptr;
  const double value = std::strtod(digits.c_str(), &end) * scale;
  const bool good = *end == '\0' && std::isfinite(value) && value >= 0 && value <= kMaxValue;
  return good ? std::optional(value) : std::nullopt;
}

bool set_value(std::string_view key, double value, Faults& faults) {
  const auto whole = static_cast<std::uint64_t>(value);
  const auto us = static_cast<std::int64_t>(value * 1e3);
  if (key == "delay_ms") {
    faults.delay_us = us;
  } else if (key == "jitter_ms") {
    faults.jitter_us = us;
  } else if (key == "rate") {
    faults.rate_bytes_s = whole;
  } else if (key == "mbit") {
    faults.rate_bytes_s = static_cast<std::uint64_t>(value * 1e6 / 8);
  } else if (key == "buffer") {
    faults.buffer_bytes = whole;
  } else if (key == "stall") {
    faults.stalled = value != 0;
  } else if (key == "corrupt") {
    faults.corrupt_probability = value;
  } else if (key == "corrupt_at") {
    faults.corrupt_at = whole;
  } else if (key == "cut_at") {
    faults.cut_at = whole;
  } else if (key == "reset_at") {
    faults.reset_at = whole;
  } else {
    return false;
  }
  return true;
}

bool set_off(std::string_view key, Faults& faults) {
  auto* position = key == "corrupt_at" ? &faults.corrupt_at
                   : key == "cut_at"   ? &faults.cut_at
                   : key == "reset_at" ? &faults.reset_at
                                       : nullptr;
  if (position == nullptr) return false;
  position->reset();
  return true;
}

bool apply_word(std::string_view word, LinkFaults& faults) {
  const bool up = word.starts_with("up."), down = word.starts_with("down.");
  if (up || down) word.remove_prefix(word.find('.') + 1);
  const std::size_t equals = word.find('=');
  if (equals == word.npos) return false;
  const std::string_view key = word.substr(0, equals), text = word.substr(equals + 1);
  const std::optional<double> value = number(text);
  if (!value && text != "off") return false;
  const auto set = [&](Faults& direction) {
    return value ? set_value(key, *value, direction) : set_off(key, direction);
  };
  return (down || set(faults.up)) && (up || set(faults.down));
}

}  // namespace

Status apply_settings(std::string_view text, LinkFaults& faults) {
  LinkFaults changed = faults;
  std::istringstream words{std::string(text)};
  for (std::string word; words >> word;) {
    if (!apply_word(word, changed)) {
      return {Code::kInvalidArgument, "'" + word + "' is no setting"};
    }
  }
  faults = changed;
  return {};
}

}  // namespace splitee::faults
