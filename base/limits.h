// Limits that hold everywhere: model files, wire, traces, tools.
// Thread rule: constants only.
#pragma once

#include <cstdint>

namespace splitee {

inline constexpr std::uint32_t kMaxClasses = 4096;

}  // namespace splitee
