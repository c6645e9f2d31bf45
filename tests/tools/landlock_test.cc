// What a process may still do once it is restricted: in a child, since nothing takes it back.
#include "tools/server/landlock.h"

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/base/temp_folder.h"

namespace splitee::tools {
namespace {

namespace fs = std::filesystem;

// 0, or what went wrong.
int open_error(const fs::path& path, int flags) {
  const int file = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
  if (file < 0) return errno;
  ::close(file);
  return 0;
}

int socket_error(const fs::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.string().copy(address.sun_path, sizeof address.sun_path - 1);
  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  const int error =
      ::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
  ::close(socket);
  return error;
}

int connect_error(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
  const int error =
      ::connect(socket, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
  ::close(socket);
  return error;
}

// The status of a child that does this: 0 where it returns true.
int in_child(const auto& does) {
  const pid_t child = ::fork();
  if (child == 0) std::_Exit(does() ? 0 : 1);
  int status = -1;
  ::waitpid(child, &status, 0);
  return status;
}

long version() {
  return ::syscall(SYS_landlock_create_ruleset, nullptr, 0, 1u);
}

struct Folders {
  Folders() {
    for (const char* name : {"model", "other", "sockets"}) fs::create_directory(root / name);
    std::ofstream(root / "model/a") << "a";
    std::ofstream(root / "other/b") << "b";
  }
  splitee::testing::TempFolder folder;
  fs::path root{folder.path()};
};

}  // namespace

TEST_CASE("a restricted process reads what it may, and does nothing else") {
  Folders folders;
  const fs::path& root = folders.root;
  const auto restricted = [&](const auto& check) {
    return in_child([&] {
      const Result<bool> done = restrict_process(
          {{(root / "model").string(), "/nonexistent"}, {(root / "sockets").string()}});
      return done.ok() && *done == (version() >= 1) && (!*done || check());
    });
  };
  if (version() < 1) MESSAGE("this kernel has no Landlock");
  CHECK(restricted([&] { return open_error(root / "model/a", O_RDONLY) == 0; }) == 0);
  CHECK(restricted([&] { return open_error(root / "other/b", O_RDONLY) == EACCES; }) == 0);
  CHECK(restricted([&] { return open_error(root / "model/a", O_WRONLY) == EACCES; }) == 0);
  CHECK(restricted([&] { return open_error(root / "model/c", O_WRONLY | O_CREAT) == EACCES; }) ==
        0);
  CHECK(restricted([&] { return open_error("/etc/hostname", O_RDONLY) == EACCES; }) == 0);
  CHECK(restricted([&] { return ::unlink((root / "model/a").c_str()) != 0 && errno == EACCES; }) ==
        0);
  CHECK(restricted([&] { return ::execl("/bin/true", "true", nullptr) != 0 && errno == EACCES; }) ==
        0);
  CHECK(restricted([&] { return socket_error(root / "sockets/s") == 0; }) == 0);
  CHECK(restricted([&] { return socket_error(root / "model/s") == EACCES; }) == 0);
  // Nobody listens there: unrestricted it would be ECONNREFUSED.
  if (version() >= 4) CHECK(restricted([&] { return connect_error(1) == EACCES; }) == 0);
  CHECK(fs::exists(root / "model/a"));
}

TEST_CASE("the folders of a file are those of its name and of what it leads to") {
  Folders folders;
  const fs::path& root = folders.root;
  fs::create_symlink(root / "other/b", root / "model/link");
  const auto found = folders_of((root / "model/link").string());
  REQUIRE(found.size() == 2);
  CHECK(found[0] == (root / "model").string());
  CHECK(fs::equivalent(found[1], root / "other"));
  CHECK(folders_of("no such file") == std::vector<std::string>{"."});
}

}  // namespace splitee::tools
