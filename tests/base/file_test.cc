#include "base/file.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/base/bytes.h"
#include "tests/base/file_size_limit.h"
#include "tests/base/temp_folder.h"

using namespace splitee;
using splitee::testing::as_bytes;
using splitee::testing::entries;
using splitee::testing::FileSizeLimit;
using splitee::testing::read_plain;
using splitee::testing::TempFolder;
using splitee::testing::write_plain;

namespace {

bool contains(const Status& status, const std::string& text) {
  return status.message().find(text) != std::string::npos;
}

std::string read_at(const InputFile& file, std::size_t offset, std::size_t size) {
  std::string out(size, '?');
  const Status status = file.read(offset, std::as_writable_bytes(std::span(out)));
  REQUIRE_MESSAGE(status.ok(), status.message());
  return out;
}

}  // namespace

TEST_CASE("InputFile: reads anywhere, also through a symbolic link, and after moves") {
  const TempFolder folder;
  write_plain(folder.file("a"), "hello");
  REQUIRE(::symlink("a", folder.file("link").c_str()) == 0);
  for (const std::string name : {"a", "link"}) {
    auto file = InputFile::open(folder.file(name));
    REQUIRE(file.ok());
    CHECK(file->path() == folder.file(name));
    InputFile moved = std::move(*file);
    CHECK(moved.size() == 5);
    CHECK(read_at(moved, 0, 5) == "hello");
    CHECK(read_at(moved, 3, 2) == "lo");
    CHECK(read_at(moved, 5, 0).empty());
    *file = std::move(moved);
    CHECK(read_at(*file, 1, 3) == "ell");
  }
}

TEST_CASE("InputFile: stays the file it was when another gets its name; a cut is an error") {
  const TempFolder folder;
  const std::string path = folder.file("a");
  write_plain(path, "hello");
  const auto file = InputFile::open(path);
  REQUIRE(file.ok());
  write_plain(folder.file("b"), "other");
  std::filesystem::rename(folder.file("b"), path);
  CHECK(read_at(*file, 0, 5) == "hello");
  const auto other = InputFile::open(path);
  REQUIRE(other.ok());
  std::filesystem::resize_file(path, 3);
  std::string out(4, '?');
  const Status cut = other->read(1, std::as_writable_bytes(std::span(out)));
  CHECK(cut.code() == Code::kIo);
  CHECK(contains(cut, path + ": cut off at byte 3"));
}

TEST_CASE("InputFile and read_file: an empty file is empty") {
  const TempFolder folder;
  write_plain(folder.file("empty"), "");
  const auto file = InputFile::open(folder.file("empty"));
  REQUIRE(file.ok());
  CHECK(file->size() == 0);
  const auto text = read_file(folder.file("empty"), 10);
  REQUIRE(text.ok());
  CHECK(text->empty());
}

TEST_CASE("only regular files are opened, and opening never waits") {
  const TempFolder folder;
  REQUIRE(::mkfifo(folder.file("fifo").c_str(), 0600) == 0);
  for (const std::string& path :
       {folder.path(), folder.file("fifo"), std::string("/dev/zero"), std::string("/dev/null")}) {
    CAPTURE(path);
    const auto file = InputFile::open(path);
    REQUIRE_FALSE(file.ok());
    CHECK(file.status().code() == Code::kInvalidArgument);
    CHECK(contains(file.status(), path));
    const auto text = read_file(path, 1000);
    REQUIRE_FALSE(text.ok());
    CHECK(text.status().code() == Code::kInvalidArgument);
  }
}

TEST_CASE("a missing file is kNotFound and named") {
  const TempFolder folder;
  for (const Status& status : {InputFile::open(folder.file("none")).status(),
                               read_file(folder.file("none"), 10).status()}) {
    CHECK(status.code() == Code::kNotFound);
    CHECK(contains(status, folder.file("none")));
  }
}

TEST_CASE("read_file: the limit is exact, also where the size is not known before") {
  const TempFolder folder;
  write_plain(folder.file("a"), std::string(1000, 'x'));
  const auto text = read_file(folder.file("a"), 1000);
  REQUIRE(text.ok());
  CHECK(*text == std::string(1000, 'x'));
  CHECK(read_file(folder.file("a"), 999).status().code() == Code::kInvalidArgument);
  const auto proc = read_file("/proc/self/status", 1 << 20);
  REQUIRE(proc.ok());
  CHECK(proc->find("Pid:") != std::string::npos);
  CHECK(read_file("/proc/self/status", 10).status().code() == Code::kInvalidArgument);
}

TEST_CASE("write_file_atomically: creates, replaces, keeps the mode, leaves nothing behind") {
  const TempFolder folder;
  const std::string path = folder.file("state");
  for (const std::string text : {"first", "second, longer", ""}) {
    REQUIRE(write_file_atomically(path, as_bytes(text), 0600).ok());
    CHECK(read_plain(path) == text);
    CHECK(entries(folder.path()) == 1);
  }
  struct stat info;
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0600);
}

TEST_CASE("write_file_atomically: a failure in the middle keeps the old file") {
  const TempFolder folder;
  const std::string path = folder.file("state");
  REQUIRE(write_file_atomically(path, as_bytes("old")).ok());
  const std::string big(100000, 'n');
  {
    const FileSizeLimit limit(5000);
    const Status status = write_file_atomically(path, as_bytes(big));
    CHECK(status.code() == Code::kIo);
    CHECK(contains(status, path));
  }
  CHECK(read_plain(path) == "old");
  CHECK(entries(folder.path()) == 1);
  CHECK(write_file_atomically(path, as_bytes(big)).ok());
  CHECK(read_plain(path) == big);
}

TEST_CASE("write_file_atomically: refuses what is not a regular file") {
  const TempFolder folder;
  REQUIRE(::mkfifo(folder.file("fifo").c_str(), 0600) == 0);
  for (const std::string& path : {folder.path(), folder.file("fifo"), std::string("/dev/null")}) {
    CAPTURE(path);
    CHECK(write_file_atomically(path, as_bytes("x")).code() == Code::kInvalidArgument);
  }
  CHECK(write_file_atomically(folder.file("no/such/folder"), as_bytes("x")).code() ==
        Code::kNotFound);
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("write_file_atomically: keeps the mode of what it replaces") {
  const TempFolder folder;
  const std::string path = folder.file("state");
  write_plain(path, "old");
  REQUIRE(::chmod(path.c_str(), 0640) == 0);
  REQUIRE(write_file_atomically(path, as_bytes("new")).ok());
  struct stat info;
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0640);
}

TEST_CASE("write_file_atomically: temporary files of the same process id are no obstacle") {
  const TempFolder folder;
  const std::string path = folder.file("state");
  const std::string left = path + ".tmp-" + std::to_string(::getpid()) + "-";
  write_plain(left + "0", "another container's");
  write_plain(left + "1", "torn");
  REQUIRE(write_file_atomically(path, as_bytes("new")).ok());
  CHECK(read_plain(path) == "new");
  CHECK(read_plain(left + "0") == "another container's");
}
