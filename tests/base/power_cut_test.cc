// What a power cut leaves of a file that is replaced. The calls that the code really makes are
// recorded; from them come all the states that a disk may be in after a cut behind any of them, a
// write torn at any byte among them: of what was not synced any part may be there, and of changes
// of the folder any beginning.
#include <algorithm>
#include <cerrno>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/owned_file.h"
#include "tests/base/temp_folder.h"

namespace {

struct Call {
  enum Kind { kWrite, kSync, kRename } kind;
  std::string path;  // of a folder, where that is synced
  std::string bytes, target;
};

struct Recorder {
  std::string folder;  // empty: calls are not looked at
  std::size_t most = static_cast<std::size_t>(-1);
  std::vector<Call> calls;
  std::optional<std::size_t> fail_at;
  int error = 0;

  // Whether the call is to fail.
  bool add(Call call) {
    calls.push_back(std::move(call));
    if (fail_at != calls.size() - 1) return false;
    calls.pop_back();
    fail_at.reset();
    errno = error;
    return true;
  }
} recorder;

// Of a descriptor in the folder, or of the folder; empty for any other.
std::string path_of(int descriptor) {
  if (recorder.folder.empty()) return {};
  std::error_code error;
  const auto link = "/proc/self/fd/" + std::to_string(descriptor);
  std::string path = std::filesystem::read_symlink(link, error).string();
  return !error && path.starts_with(recorder.folder) ? path : std::string();
}

}  // namespace

extern "C" ssize_t write(int descriptor, const void* data, std::size_t bytes) {
  const std::string path = path_of(descriptor);
  if (!path.empty()) {
    bytes = std::min(bytes, recorder.most);
    const std::string text(static_cast<const char*>(data), bytes);
    if (recorder.add({Call::kWrite, path, text, {}})) return -1;
  }
  return ::syscall(SYS_write, descriptor, data, bytes);
}

extern "C" int fsync(int descriptor) {
  const std::string path = path_of(descriptor);
  if (!path.empty() && recorder.add({Call::kSync, path, {}, {}})) return -1;
  return static_cast<int>(::syscall(SYS_fsync, descriptor));
}

extern "C" int rename(const char* from, const char* to) noexcept {
  if (!recorder.folder.empty() && recorder.add({Call::kRename, from, {}, to})) return -1;
  return ::renameat(AT_FDCWD, from, AT_FDCWD, to);
}

namespace splitee {
namespace {

using testing::TempFolder;

// What may stand under `name` after a cut behind the first `done` calls.
std::set<std::string> after_cut(const std::string& name, const std::string& before,
                                const std::vector<Call>& calls, std::size_t done) {
  std::string written;
  bool synced = false;
  std::set<std::string> may = {before};
  for (std::size_t i = 0; i < done; ++i) {
    const Call& call = calls[i];
    if (call.kind == Call::kWrite) {
      written += call.bytes;
      synced = false;
      if (call.path != name) continue;
      // Straight into the file: new bytes up to any place, old ones behind it.
      for (std::size_t end = 0; end <= written.size(); ++end) {
        may.insert(written.substr(0, end) + before.substr(std::min(end, before.size())));
      }
    } else if (call.kind == Call::kRename) {
      for (std::size_t end = synced ? written.size() : 0; end <= written.size(); ++end) {
        may.insert(written.substr(0, end));
      }
    } else if (call.kind == Call::kSync) {
      synced = true;
      if (!name.starts_with(call.path + "/")) continue;
      may = {written};  // the folder
    }
  }
  return may;
}

template <class Replace>
void check_cuts(const Replace& replace) {
  TempFolder folder;
  const std::string name = folder.file("state"), before(53, 'o'), after(61, 'n');
  for (const std::size_t most : {std::size_t{1}, std::size_t{7}, std::size_t{100}}) {
    CAPTURE(most);
    testing::write_plain(name, before);
    recorder = {folder.path(), most, {}, {}, 0};
    const Status status = replace(name, std::as_bytes(std::span(after)));
    recorder.folder.clear();
    REQUIRE(status.ok());
    CHECK(testing::read_plain(name) == after);
    const std::vector<Call>& calls = recorder.calls;
    REQUIRE(calls.size() >= 4);
    for (std::size_t done = 0; done < calls.size(); ++done) {
      for (const std::string& left : after_cut(name, before, calls, done)) {
        CAPTURE(done);
        CHECK((left == before || left == after));
      }
    }
    CHECK(after_cut(name, before, calls, calls.size()) == std::set<std::string>{after});
  }
}

template <class Replace>
void check_failures(const Replace& replace) {
  TempFolder folder;
  const std::string name = folder.file("state"), before(53, 'o'), after(61, 'n');
  for (const int error : {ENOSPC, EIO, EDQUOT}) {
    for (std::size_t failing = 0;; ++failing) {
      CAPTURE(failing);
      testing::write_plain(name, before);
      recorder = {folder.path(), 7, {}, failing, error};
      const Status status = replace(name, std::as_bytes(std::span(after)));
      recorder.folder.clear();
      const bool failed = !recorder.fail_at;
      CHECK(status.ok() == !failed);
      const std::string left = testing::read_plain(name);
      CHECK((left == before || left == after));
      CHECK((left == after || failed));
      CHECK(testing::entries(folder.path()) == 1);
      if (!failed) break;
    }
  }
}

Status replace_owned(const std::string& name, std::span<const std::byte> bytes) {
  Result<OwnedFile> file = OwnedFile::open(name);
  return file.ok() ? file->replace(bytes) : file.status();
}

Status replace_atomically(const std::string& name, std::span<const std::byte> bytes) {
  return write_file_atomically(name, bytes);
}

}  // namespace

TEST_CASE("power cuts: behind every call and within every write, the old file or the new one") {
  check_cuts(replace_owned);
  check_cuts(replace_atomically);
}

TEST_CASE(
    "full and broken disks: whichever call fails, the old file or the new one, and no other") {
  check_failures(replace_owned);
  check_failures(replace_atomically);
}

TEST_CASE("power cuts: the states of a careless replacement are found") {
  const std::string name = "/f/state", made = "/f/state.tmp";
  const std::vector<Call> unsynced = {{Call::kWrite, made, "new", {}},
                                      {Call::kRename, made, {}, name}};
  CHECK(after_cut(name, "old", unsynced, 2) == std::set<std::string>{"old", "", "n", "ne", "new"});
  const std::vector<Call> in_place = {{Call::kWrite, name, "new", {}}};
  CHECK(after_cut(name, "old", in_place, 1) == std::set<std::string>{"old", "nld", "ned", "new"});
}

}  // namespace splitee
