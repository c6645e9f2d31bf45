#include "tools/common/console.h"

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstring>
#include <iterator>
#include <new>
#include <system_error>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "base/utf8.h"
#include "tools/common/write_end.h"

namespace splitee::tools {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kLastPatience{300};
constexpr std::string_view kLost = "(messages are missing here: nobody read them)\n";

WriteEnd messages;
std::atomic<bool> messages_lost = false;
LogFormat log_format = LogFormat::kPlain;
std::string_view running_program;

enum class Written { kAll, kNoRoom, kFailed };

bool wait_for_room(int fd, steady_clock::time_point until) {
  const auto left = std::chrono::duration_cast<milliseconds>(until - steady_clock::now());
  pollfd item{fd, POLLOUT, 0};
  return left.count() > 0 && ::poll(&item, 1, static_cast<int>(left.count())) != 0;
}

// In pieces that a pipe takes whole or not at all.
Written write_until(const WriteEnd& end, std::string_view text, steady_clock::time_point until) {
  while (!text.empty()) {
    const ssize_t n = end.write(text.substr(0, PIPE_BUF));
    if (n < 0) return Written::kFailed;
    if (n == 0 && !wait_for_room(end.fd(), until)) return Written::kNoRoom;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return Written::kAll;
}

Written write_line(std::string_view text, Level level, steady_clock::time_point until) {
  if (log_format == LogFormat::kPlain) return write_until(messages, text, until);
  const auto now = std::chrono::system_clock::now();
  return write_until(messages, log_line(log_format, now, level, running_program, text), until);
}

void write_message(std::string_view text, Level level, milliseconds patience) {
  if (!messages.valid()) return;
  const auto until = steady_clock::now() + patience;
  if (messages_lost && write_line(kLost, Level::kWarning, until) != Written::kAll) return;
  messages_lost = write_line(text, level, until) == Written::kNoRoom;
}

Status output_error() {
  return Status(Code::kIo, std::string("standard output: cannot write: ") + std::strerror(errno));
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
  messages = WriteEnd::of_standard(STDERR_FILENO);
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

void set_log_format(LogFormat format) {
  log_format = format;
}

void print_message(std::string_view text, Level level) {
  write_message(text, level, milliseconds(0));
}

void print_last_message(std::string_view text, Level level) {
  write_message(text, level, kLastPatience);
}

Status print_output(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return output_error();
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

Result<bool> print_output_within(std::string_view text, milliseconds patience) {
  const WriteEnd output = WriteEnd::of_standard(STDOUT_FILENO);
  if (!output.valid()) return output_error();
  const Written written = write_until(output, text, steady_clock::now() + patience);
  if (written == Written::kFailed) return output_error();
  return written == Written::kAll;
}

int fail(std::string_view program, const Status& status) {
  print_last_message(fmt::format("{}: {}\n", program, printable(status.message())), Level::kError);
  return status.code() == Code::kInvalidArgument ? kExitUsage : kExitError;
}

int run_program(std::string_view program, const std::function<int()>& body) {
  prepare_process();
  running_program = program;
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return fail(program, Status(Code::kIo, "not enough memory"));
  } catch (const std::system_error& error) {
    return fail(program, Status(Code::kIo, error.what()));
  }
}

int finish(std::string_view program, const Status& status) {
  return status.ok() ? kExitOk : fail(program, status);
}

}  // namespace splitee::tools
