#include "base/owned_file.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/file_parts.h"

namespace splitee {

namespace fs = std::filesystem;
using file_parts::system_error;

namespace {

constexpr int kMostLinks = 40;  // as the kernel
constexpr int kMostTries = 100;

// Where the last link leads, whether or not there is a file.
std::string without_links(std::string path) {
  for (int links = 0; links < kMostLinks; ++links) {
    std::error_code error;
    const fs::path target = fs::read_symlink(path, error);
    if (error) break;
    path = (fs::path(path).parent_path() / target).string();  // an absolute one stands alone
  }
  return path;
}

// Without O_NONBLOCK opening a FIFO would wait.
Result<Descriptor> open_or_create(const std::string& path, bool& writable) {
  struct stat info;
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return file_parts::not_regular(path);
  }
  const int flags = O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW;
  Descriptor file(::open(path.c_str(), flags | O_RDWR | O_CREAT, 0666));
  writable = file.valid();
  if (writable) return file;
  Status error = system_error(path, "open");
  Descriptor readable(::open(path.c_str(), flags | O_RDONLY));
  return readable.valid() ? Result<Descriptor>(std::move(readable)) : error;
}

bool still_named(int descriptor, const std::string& path) {
  struct stat open, named;
  return ::fstat(descriptor, &open) == 0 && ::stat(path.c_str(), &named) == 0 &&
         open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

void remove_left_overs(const std::string& path) {
  const fs::path file(path);
  const std::string begin = file.filename().string() + file_parts::kTemporaryMark;
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  std::error_code error;
  fs::directory_iterator it(folder, error);
  for (; !error && it != fs::directory_iterator(); it.increment(error)) {
    if (it->path().filename().string().starts_with(begin)) ::unlink(it->path().c_str());
  }
}

// Whether the file itself can be written to where another one cannot take its place.
bool only_in_place(int error) {
  return error == EBUSY || error == EACCES || error == EPERM || error == EXDEV;
}

}  // namespace

OwnedFile::OwnedFile(std::string path, int descriptor)
    : path_(std::move(path)), descriptor_(descriptor) {}

OwnedFile::OwnedFile(OwnedFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      in_place_(other.in_place_) {}

OwnedFile::~OwnedFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<OwnedFile> OwnedFile::open(const std::string& path) {
  const std::string target = without_links(path);
  for (int tries = 0; tries < kMostTries; ++tries) {
    bool writable = false;
    Result<Descriptor> file = open_or_create(target, writable);
    if (!file.ok()) return file.status();
    if (!writable) return OwnedFile(target, file->release());
    if (::flock(file->get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) {
        return Status(Code::kIo, path + ": in use by another process, which keeps it locked");
      }
    } else if (!still_named(file->get(), target)) {
      continue;  // replaced between opening and locking
    } else {
      remove_left_overs(target);
    }
    return OwnedFile(target, file->release());
  }
  return Status(Code::kIo, path + ": replaced again and again by another process");
}

Result<std::string> OwnedFile::read(std::size_t max_bytes) const {
  return read_file(path_, max_bytes);
}

Status OwnedFile::replace(std::span<const std::byte> bytes) {
  if (in_place_) return write_into(bytes);
  Result<file_parts::Temporary> temporary = file_parts::make_temporary(path_, 0666);
  if (!temporary.ok()) return write_into(bytes, errno, temporary.status());
  const int made = temporary->descriptor.get();
  Status status = file_parts::write_and_sync(made, path_, bytes);
  // Locked before it has the name, so that nobody else can be first.
  (void)!::flock(made, LOCK_EX | LOCK_NB);
  if (status.ok() && ::rename(temporary->path.c_str(), path_.c_str()) == 0) {
    ::close(std::exchange(descriptor_, temporary->descriptor.release()));
    return file_parts::sync_folder_of(path_);
  }
  const int error = errno;
  if (status.ok()) status = system_error(path_, "replace");
  ::unlink(temporary->path.c_str());
  return write_into(bytes, error, status);
}

Status OwnedFile::write_into(std::span<const std::byte> bytes, int error, Status status) {
  const bool writable = (::fcntl(descriptor_, F_GETFL) & O_ACCMODE) == O_RDWR;
  if (!writable || !only_in_place(error)) return status;
  in_place_ = true;
  return write_into(bytes);
}

Status OwnedFile::write_into(std::span<const std::byte> bytes) {
  if (::lseek(descriptor_, 0, SEEK_SET) != 0) return system_error(path_, "write");
  if (Status s = file_parts::write_and_sync(descriptor_, path_, bytes); !s.ok()) return s;
  const bool cut = ::ftruncate(descriptor_, static_cast<off_t>(bytes.size())) == 0;
  return cut ? Status() : system_error(path_, "write");
}

}  // namespace splitee
