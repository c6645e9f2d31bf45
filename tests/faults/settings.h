// The proxy's faults as text: "delay_ms=20 up.rate=62500 down.stall=1".
// Thread rule: plain values.
#pragma once

#include <string_view>

#include "base/status.h"
#include "tests/faults/shaper.h"

namespace splitee::faults {

struct LinkFaults {
  Faults up;    // from the client to the server
  Faults down;  // back
};

// What KEY=VALUE may be, for --help.
extern const char* const kSettingsHelp;

// Changes what the words of `text` name; each is KEY=VALUE, for both directions, or up.KEY=VALUE,
// or down.KEY=VALUE. On an error, which names the word, nothing is changed.
Status apply_settings(std::string_view text, LinkFaults& faults);

}  // namespace splitee::faults
