#include "runtime/file.h"

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace splitee::runtime {
namespace {

// A file descriptor, closed at destruction.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  // Closes now; false where the system reports a failure.
  bool close() { return ::close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_;
};

Status system_error(const std::string& path, const char* action) {
  const int error = errno;
  return {error == ENOENT ? Code::kNotFound : Code::kIo,
          path + ": cannot " + action + ": " + std::generic_category().message(error)};
}

Status not_regular(const std::string& path) {
  return {Code::kInvalidArgument, path + ": not a regular file"};
}

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
  if (!std::in_range<std::size_t>(info.st_size)) {
    return Status(Code::kUnsupported, path + ": too large for this machine");
  }
  return RegularFile{std::move(descriptor), static_cast<std::size_t>(info.st_size)};
}

Status write_and_sync(Descriptor& descriptor, const std::string& path,
                      std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return system_error(path, "write");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  if (::fsync(descriptor.get()) != 0) return system_error(path, "sync");
  if (!descriptor.close()) return system_error(path, "close");
  return {};
}

Status sync_folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  Descriptor descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!descriptor.valid()) return system_error(folder, "open");
  if (::fsync(descriptor.get()) != 0) return system_error(folder, "sync");
  return {};
}

Status write_and_rename(const std::string& temporary, const std::string& path,
                        std::span<const std::byte> bytes, unsigned mode) {
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
  Descriptor descriptor(::open(temporary.c_str(), flags, mode));
  if (!descriptor.valid()) return system_error(temporary, "create");
  if (Status status = write_and_sync(descriptor, temporary, bytes); !status.ok()) return status;
  if (::rename(temporary.c_str(), path.c_str()) != 0) return system_error(path, "replace");
  return {};
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

Status write_file_atomically(const std::string& path, std::span<const std::byte> bytes,
                             unsigned mode) {
  struct stat info;
  if (::lstat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) return not_regular(path);
  const std::string temporary = path + ".tmp" + std::to_string(::getpid());
  ::unlink(temporary.c_str());  // left by a killed process that had the same id
  if (Status status = write_and_rename(temporary, path, bytes, mode); !status.ok()) {
    ::unlink(temporary.c_str());
    return status;
  }
  return sync_folder_of(path);
}

}  // namespace splitee::runtime
