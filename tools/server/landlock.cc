#include "tools/server/landlock.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/descriptor.h"

namespace splitee::tools {
namespace {

// Newer than the header of the oldest system that this is built on.
constexpr std::uint64_t kTruncate = 1u << 14, kDeviceControl = 1u << 15, kConnectTcp = 1u << 1,
                        kSignals = 1u << 1;

struct Ruleset {
  std::uint64_t files = 0, network = 0, scoped = 0;
};

// Rights that a kernel of this version knows.
Ruleset ruleset_of(long version) {
  Ruleset ruleset{.files = LANDLOCK_ACCESS_FS_REFER - 1};
  if (version >= 2) ruleset.files |= LANDLOCK_ACCESS_FS_REFER;
  if (version >= 3) ruleset.files |= kTruncate;
  if (version >= 4) ruleset.network = kConnectTcp;
  if (version >= 5) ruleset.files |= kDeviceControl;
  if (version >= 6) ruleset.scoped = kSignals;
  return ruleset;
}

// Older kernels refuse a structure that is longer than theirs.
std::size_t size_for(long version) {
  return sizeof(std::uint64_t) * (version >= 6 ? 3 : version >= 4 ? 2 : 1);
}

Status failed(const std::string& what) {
  return Status(Code::kIo, "--landlock: " + what + ": " + std::strerror(errno));
}

Status allow(int ruleset, const std::string& path, std::uint64_t rights) {
  const Descriptor at(::open(path.c_str(), O_PATH | O_CLOEXEC));
  struct stat info {};
  if (!at.valid() || ::fstat(at.get(), &info) != 0) {
    return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? Status() : failed(path);
  }
  if (!S_ISDIR(info.st_mode)) rights &= LANDLOCK_ACCESS_FS_READ_FILE;
  landlock_path_beneath_attr rule{};
  rule.allowed_access = rights;
  rule.parent_fd = at.get();
  if (::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) {
    return failed(path);
  }
  return {};
}

}  // namespace

std::vector<std::string> system_paths() {
  return {"/usr",
          "/opt",
          "/lib",
          "/lib32",
          "/lib64",
          "/etc",
          "/run/systemd/resolve",
          "/sys",
          "/proc/self",
          "/proc/meminfo",
          "/proc/stat",
          "/proc/sys",
          "/proc/cpuinfo",
          "/dev/urandom",
          "/dev/null"};
}

std::vector<std::string> folders_of(const std::string& file) {
  namespace fs = std::filesystem;
  const auto folder = [](const fs::path& path) {
    return path.has_parent_path() ? path.parent_path().string() : std::string(".");
  };
  std::vector<std::string> folders{folder(file)};
  std::error_code error;
  const fs::path target = fs::canonical(file, error);
  if (!error) folders.push_back(folder(target));
  return folders;
}

Result<bool> restrict_process(const LandlockRules& rules) {
  const long version =
      ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 1) return false;
  const Ruleset rights = ruleset_of(version);
  const Descriptor ruleset(
      static_cast<int>(::syscall(SYS_landlock_create_ruleset, &rights, size_for(version), 0)));
  if (!ruleset.valid()) return failed("no rules");
  for (const std::string& path : rules.readable) {
    const Status status =
        allow(ruleset.get(), path, LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR);
    if (!status.ok()) return status;
  }
  for (const std::string& path : rules.socket_folders) {
    const Status status =
        allow(ruleset.get(), path, LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE);
    if (!status.ok()) return status;
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return failed("no_new_privs");
  if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) return failed("not restricted");
  return true;
}

}  // namespace splitee::tools
