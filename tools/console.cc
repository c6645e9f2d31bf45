#include "tools/console.h"

#include <cerrno>
#include <cstring>

#include <unistd.h>

namespace splitee::tools {

using runtime::Code;
using runtime::Status;

namespace {

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

}  // namespace

void print_message(std::string_view text) {
  write_all(STDERR_FILENO, text);
}

Status print_output(std::string_view text) {
  if (write_all(STDOUT_FILENO, text)) return {};
  return Status(Code::kIo, std::string("standard output: cannot write: ") + std::strerror(errno));
}

int fail(std::string_view program, const Status& status) {
  print_message(fmt::format("{}: {}\n", program, status.message()));
  return status.code() == Code::kInvalidArgument ? kExitUsage : kExitError;
}

Status not_usage(Status status) {
  if (status.code() != Code::kInvalidArgument) return status;
  return Status(Code::kIo, status.message());
}

int finish(std::string_view program, const Status& status) {
  return status.ok() ? kExitOk : fail(program, status);
}

}  // namespace splitee::tools
