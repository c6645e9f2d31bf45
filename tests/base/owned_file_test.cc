#include "base/owned_file.h"

#include <filesystem>
#include <fstream>
#include <string>

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/base/bytes.h"
#include "tests/base/temp_folder.h"

using namespace splitee;
using splitee::testing::as_bytes;
using splitee::testing::entries;
using splitee::testing::read_plain;
using splitee::testing::TempFolder;
using splitee::testing::write_plain;

TEST_CASE("OwnedFile: made where there is none, read and replaced") {
  const TempFolder folder;
  const std::string path = folder.file("state");
  Result<OwnedFile> file = OwnedFile::open(path);
  REQUIRE_MESSAGE(file.ok(), file.status().message());
  CHECK(file->read(100).value() == "");
  for (const std::string text : {"first", "second, longer", "3"}) {
    REQUIRE(file->replace(as_bytes(text)).ok());
    CHECK(read_plain(path) == text);
    CHECK(file->read(100).value() == text);
  }
  CHECK(!file->in_place());
  CHECK(entries(folder.path()) == 1);
}

TEST_CASE("OwnedFile: one at a time, also after it was replaced, and over a link") {
  const TempFolder folder;
  const std::string path = folder.file("state"), link = folder.file("link");
  REQUIRE(::symlink("state", link.c_str()) == 0);
  {
    Result<OwnedFile> first = OwnedFile::open(path);
    REQUIRE(first.ok());
    for (int round = 0; round < 2; ++round) {
      for (const std::string& name : {path, link}) {
        const Status refused = OwnedFile::open(name).status();
        CHECK(refused.code() == Code::kIo);
        CHECK(refused.message().starts_with(name));
        CHECK(refused.message().find("another process") != std::string::npos);
      }
      REQUIRE(first->replace(as_bytes("learned")).ok());
    }
  }
  CHECK(OwnedFile::open(link).ok());
}

TEST_CASE("OwnedFile: a link stays one, a dangling one gets its file, the mode stays") {
  const TempFolder folder;
  REQUIRE(::mkdir(folder.file("data").c_str(), 0755) == 0);
  const std::string link = folder.file("link"), target = folder.file("data/state");
  REQUIRE(::symlink("data/state", link.c_str()) == 0);
  Result<OwnedFile> file = OwnedFile::open(link);
  REQUIRE_MESSAGE(file.ok(), file.status().message());
  REQUIRE(::chmod(target.c_str(), 0640) == 0);
  REQUIRE(file->replace(as_bytes("new")).ok());
  CHECK(std::filesystem::is_symlink(link));
  CHECK(read_plain(target) == "new");
  struct stat info;
  REQUIRE(::stat(target.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0640);
}

TEST_CASE("OwnedFile: what a killed process has left is removed, nothing else") {
  const TempFolder folder;
  const std::string path = folder.file("state");
  write_plain(path, "good");
  write_plain(path + ".tmp-1-0", "torn");
  write_plain(folder.file("other.tmp-1-0"), "not ours");
  const Result<OwnedFile> file = OwnedFile::open(path);
  REQUIRE(file.ok());
  CHECK(file->read(100).value() == "good");
  CHECK(entries(folder.path()) == 2);
}

TEST_CASE("OwnedFile: refuses what is not a regular file, and a folder that is not there") {
  const TempFolder folder;
  REQUIRE(::mkfifo(folder.file("fifo").c_str(), 0600) == 0);
  for (const std::string& path : {folder.path(), folder.file("fifo"), std::string("/dev/null")}) {
    CAPTURE(path);
    CHECK(OwnedFile::open(path).status().code() == Code::kInvalidArgument);
  }
  CHECK(OwnedFile::open(folder.file("no/state")).status().code() == Code::kNotFound);
}
