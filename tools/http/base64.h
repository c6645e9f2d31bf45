// Base64 (RFC 4648, section 4): bytes as text in JSON.
// Thread rule: re-entrant.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace splitee::tools {

// Nothing where the text is none: other characters (line ends, too), or not padded to fours.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace splitee::tools
