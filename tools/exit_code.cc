#include "tools/exit_code.h"

#include <cstdio>

#include <fmt/format.h>

namespace splitee::tools {

int fail(std::string_view program, const runtime::Status& status) {
  fmt::print(stderr, "{}: {}\n", program, status.message());
  return status.code() == runtime::Code::kInvalidArgument ? kExitUsage : kExitError;
}

}  // namespace splitee::tools
