// An edge's log, written in any state that a disk may leave it in: full at any byte, and cut off at
// any byte by a crash before.
#include "tools/common/output_file.h"

#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "tests/base/file_size_limit.h"
#include "tests/base/temp_folder.h"

namespace splitee::tools {
namespace {

using splitee::testing::FileSizeLimit;
using splitee::testing::read_plain;
using splitee::testing::TempFolder;
using splitee::testing::write_plain;

const std::vector<std::string> kRecords = {"0 exit\n", "1 offload 0.75\n", "2 audit\n"};

std::string all_records() {
  std::string text;
  for (const std::string& record : kRecords) text += record;
  return text;
}

}  // namespace

TEST_CASE("a log cut off at any byte goes on with lines of its own") {
  const TempFolder folder;
  const std::string log = folder.file("log"), old = all_records();
  for (std::size_t bytes = 0; bytes <= old.size(); ++bytes) {
    CAPTURE(bytes);
    write_plain(log, old.substr(0, bytes));
    auto file = OutputFile::open(log, nullptr, OutputFile::Existing::kKept);
    REQUIRE(file.ok());
    CHECK(file->write("3 final\n").ok());
    REQUIRE(file->close().ok());
    const bool whole = bytes == 0 || old[bytes - 1] == '\n';
    CHECK(read_plain(log) == old.substr(0, bytes) + (whole ? "" : "\n") + "3 final\n");
  }
}

TEST_CASE("a disk that is full at any byte leaves whole records, and says how many") {
  const TempFolder folder;
  const std::string log = folder.file("log"), all = all_records();
  for (std::size_t room = 0; room <= all.size(); ++room) {
    CAPTURE(room);
    write_plain(log, "");
    auto file = OutputFile::open(log);
    REQUIRE(file.ok());
    for (const std::string& record : kRecords) CHECK(file->write(record).ok());
    const FileSizeLimit full(room);
    CHECK(file->flush().ok() == (room == all.size()));
    std::string expected;
    std::uint64_t records = 0;
    for (const std::string& record : kRecords) {
      if (expected.size() + record.size() > room) break;
      expected += record;
      ++records;
    }
    CHECK(read_plain(log) == expected);
    CHECK(file->records() == records);
    CHECK(file->failed() == (room < all.size()));
  }
}

TEST_CASE("nothing is written behind a record that did not fit, though it would fit itself") {
  const TempFolder folder;
  const std::string path = folder.file("out"), first(60, 'a'), large(600, 'b'), small(20, 'c');
  Result<OutputFile> output = OutputFile::open(path);
  REQUIRE(output.ok());
  REQUIRE(output->write(first + "\n").ok());
  REQUIRE(output->flush().ok());
  Status full;
  {
    const FileSizeLimit disk(200);
    REQUIRE(output->write(large + "\n").ok());  // kept in memory
    full = output->flush();
    CHECK(!full.ok());
  }
  CHECK(output->failed());
  CHECK(output->records() == 1);
  // The run ends, and the samples in progress come to their records.
  CHECK(output->write(small + "\n").message() == full.message());
  CHECK(output->flush().message() == full.message());
  CHECK(output->close().message() == full.message());
  CHECK(output->records() == 1);
  CHECK(read_plain(path) == first + "\n");
}

}  // namespace splitee::tools
