#include "tools/console.h"

#include <cerrno>
#include <cstring>
#include <iterator>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "tools/utf8.h"

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

void prepare_process() {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    // The lowest free number is `fd` itself. Wrong way round: reading, or writing, is refused.
    ::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

std::string printable(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t bytes = utf8_sequence_bytes(text);
    const auto first = static_cast<unsigned char>(text[0]);
    // U+0080 to U+009F, two bytes from c2, are control characters as well.
    const bool control =
        first < 0x20 || first == 0x7f ||
        (bytes == 2 && first == 0xc2 && static_cast<unsigned char>(text[1]) < 0xa0);
    const std::size_t taken = bytes == 0 ? 1 : bytes;
    for (const char c : text.substr(0, taken)) {
      if (bytes == 0 || control) {
        fmt::format_to(std::back_inserter(result), "\\x{:02x}", static_cast<unsigned char>(c));
      } else {
        result += c;
      }
    }
    text.remove_prefix(taken);
  }
  return result;
}

void print_message(std::string_view text) {
  write_all(STDERR_FILENO, text);
}

Status print_output(std::string_view text) {
  if (write_all(STDOUT_FILENO, text)) return {};
  return Status(Code::kIo, std::string("standard output: cannot write: ") + std::strerror(errno));
}

int fail(std::string_view program, const Status& status) {
  print_message(fmt::format("{}: {}\n", program, printable(status.message())));
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
