// Text as bytes. The view lives as long as the text.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace splitee::testing {

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace splitee::testing
