#include "base/file.h"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file_parts.h"

namespace splitee {
namespace file_parts {

constexpr int kMostTemporaries = 1000;  // of one process id, left by killed ones

Status system_error(const std::string& path, const char* action) {
  const int error = errno;
  return {error == ENOENT ? Code::kNotFound : Code::kIo,
          path + ": cannot " + action + ": " + std::generic_category().message(error)};
}

Status not_regular(const std::string& path) {
  return {Code::kInvalidArgument, path + ": not a regular file"};
}

Status write_and_sync(int descriptor, const std::string& path, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return system_error(path, "write");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return ::fsync(descriptor) == 0 ? Status() : system_error(path, "sync");
}

Status sync_folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!descriptor.valid()) return system_error(folder, "open");
  if (::fsync(descriptor.get()) != 0) return system_error(folder, "sync");
  return {};
}

Result<Temporary> make_temporary(const std::string& path, unsigned mode) {
  struct stat replaced;
  const bool replaces = ::stat(path.c_str(), &replaced) == 0;
  // In two containers two processes may have the same id: whoever made the file has it.
  for (int number = 0;; ++number) {
    const std::string name =
        path + kTemporaryMark + std::to_string(::getpid()) + "-" + std::to_string(number);
    Descriptor made(::open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode));
    if (!made.valid() && errno == EEXIST && number < kMostTemporaries) continue;
    if (!made.valid()) return system_error(name, "create");
    if (replaces) {
      (void)!::fchown(made.get(), replaced.st_uid, replaced.st_gid);
      (void)!::fchmod(made.get(), replaced.st_mode & 07777);
    }
    return Temporary{name, std::move(made)};
  }
}

}  // namespace file_parts

using file_parts::not_regular;
using file_parts::sync_folder_of;
using file_parts::system_error;
using file_parts::write_and_sync;

namespace {

struct RegularFile {
  Descriptor descriptor;
  std::size_t size;
};

Result<RegularFile> open_regular(const std::string& path) {
  // Without O_NONBLOCK opening a FIFO would wait for a writer.
  Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!descriptor.valid()) return system_error(path, "open");
  struct stat info;
  if (::fstat(descriptor.get(), &info) != 0) return system_error(path, "stat");
  if (!S_ISREG(info.st_mode)) return not_regular(path);
  // Half of the addresses, as any object: a place in it, and one block further, is a size_t.
  if (!std::in_range<std::ptrdiff_t>(info.st_size)) {
    return Status(Code::kUnsupported, path + ": too large for this machine");
  }
  return RegularFile{std::move(descriptor), static_cast<std::size_t>(info.st_size)};
}

}  // namespace

Result<InputFile> InputFile::open(const std::string& path) {
  Result<RegularFile> file = open_regular(path);
  if (!file.ok()) return file.status();
  InputFile input;
  input.path_ = path;
  input.descriptor_ = file->descriptor.release();
  input.size_ = file->size;
  return input;
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(std::exchange(other.size_, 0)) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  return *this;
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Status InputFile::read(std::size_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t got = ::pread(descriptor_, out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(path_, "read");
    if (got == 0) {
      return {Code::kIo, path_ + ": cut off at byte " + std::to_string(offset) +
                             " after it was opened, when it had " + std::to_string(size_)};
    }
    offset += static_cast<std::size_t>(got);
    out = out.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

Result<std::string> read_file(const std::string& path, std::size_t max_bytes) {
  Result<RegularFile> file = open_regular(path);
  if (!file.ok()) return file.status();
  const Status too_large(Code::kInvalidArgument,
                         path + ": larger than " + std::to_string(max_bytes) + " bytes");
  if (file->size > max_bytes) return too_large;
  // The size is only a hint: the file may grow, and files of /proc say 0.
  std::string content(file->size + 1, '\0');
  std::size_t used = 0;
  for (;;) {
    if (used == content.size()) content.resize(2 * used);
    const ssize_t got =
        ::read(file->descriptor.get(), content.data() + used, content.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(path, "read");
    if (got == 0) break;
    used += static_cast<std::size_t>(got);
    if (used > max_bytes) return too_large;
  }
  content.resize(used);
  return content;
}

Status check_replaceable(const std::string& path) {
  struct stat info;
  if (::lstat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) return not_regular(path);
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == path.npos ? "." : path.substr(0, slash + 1);
  if (::access(folder.c_str(), W_OK | X_OK) != 0) return system_error(path, "create");
  return {};
}

Status write_file_atomically(const std::string& path, std::span<const std::byte> bytes,
                             unsigned mode) {
  if (Status status = check_replaceable(path); !status.ok()) return status;
  Result<file_parts::Temporary> temporary = file_parts::make_temporary(path, mode);
  if (!temporary.ok()) return temporary.status();
  Status status = write_and_sync(temporary->descriptor.get(), path, bytes);
  if (status.ok() && !temporary->descriptor.close()) status = system_error(path, "close");
  if (status.ok() && ::rename(temporary->path.c_str(), path.c_str()) != 0) {
    status = system_error(path, "replace");
  }
  if (status.ok()) return sync_folder_of(path);
  ::unlink(temporary->path.c_str());
  return status;
}

}  // namespace splitee
