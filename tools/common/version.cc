#include "tools/common/version.h"

#include <fmt/format.h>

#include "kernels/kernels.h"
#include "tools/commit.h"  // made by the build

namespace splitee::tools {

std::string version_text(std::string_view program) {
  constexpr std::string_view kVersion = SPLITEE_VERSION, kCommit = SPLITEE_COMMIT;
  std::string text = fmt::format("{} {}", program, kVersion);
  if (kCommit != kVersion) text += fmt::format(" ({})", kCommit);
  text += "\nkernel targets: ";
  std::string_view between;
  for (const kernels::Kernels* kernels : kernels::compiled_targets()) {
    text += fmt::format("{}{}", between, kernels->target);
    between = ", ";
  }
  return text + fmt::format("; this CPU runs {}", kernels::find_target("")->target);
}

}  // namespace splitee::tools
