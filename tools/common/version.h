// What a program is: version, commit and kernel targets.
#pragma once

#include <string>
#include <string_view>

namespace splitee::tools {

// "PROGRAM VERSION (COMMIT)", the commit as `git describe` names it, left out where the source has
// no history; then a line with the kernel targets of this build and the one that fits this CPU
// best.
std::string version_text(std::string_view program);

}  // namespace splitee::tools
