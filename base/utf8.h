// Well-formed UTF-8 (Unicode 15, table 3-7).
// Thread rule: free functions, re-entrant.
#pragma once

#include <cstddef>
#include <string_view>

namespace splitee {

// Bytes of the well-formed sequence at the start of `text` (not empty); 0 if there is none.
std::size_t utf8_sequence_bytes(std::string_view text);

bool valid_utf8(std::string_view text);

}  // namespace splitee
